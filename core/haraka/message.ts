// The message inside Haraka's core, between DATA and the queue. Core keeps the header as text and drops what it does
// not like; here its input is filtered, and its output made the octets that came in. Read with Haraka 3.3.4.
import type { Connection, Plugin, Transaction } from './types'

/** What reads the message on its way into core. */
export interface MessageFilter {
  /** The lines that go on in place of this one. */
  take(line: Buffer): Buffer[]
  /** The next line belongs to the header. */
  readonly inHeader: boolean
  refuse(text: string): void
  /** The octets of header fields that core's text may not give back, by that text: of all fields with it, in order. */
  readonly exact: ReadonlyMap<string, readonly Buffer[]>
}

/** How core makes text of octets, whatever HELO or another plugin says: what we judge and write is UTF-8. */
const ENCODING = 'utf8'

/**
 * Undoes what core does after HELO: it reads the header as Latin-1, and commands too, also after a later EHLO on the
 * same connection. Called at MAIL.
 */
export function readAsUtf8(connection: Connection): void {
  connection.encoding = ENCODING
  if (connection.transaction) connection.transaction.encoding = ENCODING
}

/** Says that a queue file of ours is dot-stuffed from its first line: core stuffs the body only. */
const STUFFED = 'relay_guard_stuffed'

/** True where every line of this message's queue file is dot-stuffed; false: those of the body only. */
export const isWhollyStuffed = (notes: Record<string, unknown>): boolean => notes[STUFFED] === true

/**
 * Sends every line of the message through `filter` before core sees it, and makes whatever reads the message (next
 * hops, the queue, scanners, DKIM) get the same octets. Header fields named `first` come before all others.
 */
export function filterMessage(transaction: Transaction, filter: MessageFilter, first: string): void {
  const addData = transaction.add_data
  transaction.add_data = (line) => {
    // Core's own Received field comes as text.
    if (typeof line === 'string') return addData.call(transaction, line)
    const { inHeader } = filter
    transaction.encoding = ENCODING
    for (const one of filter.take(line)) {
      const before = transaction.header_lines.length
      addData.call(transaction, one)
      if (!inHeader) continue
      // Without any header field core would take the body for the header.
      if (one.length === 2 && transaction.header_pos === 0) transaction.header_pos = -1
      if (one.length > 2 && filter.inHeader && transaction.header_lines.length === before)
        filter.refuse(`The header has more than ${before} lines`)
    }
  }
  const endData = transaction.end_data
  transaction.end_data = (done) => {
    // Left to itself, core looks for where a header without an empty line might end.
    if (filter.inHeader && transaction.header_lines.length > 0) addData.call(transaction, Buffer.from('\r\n'))
    endData.call(transaction, done)
  }
  transaction.notes[STUFFED] = true
  pipeExactly(transaction, filter, `${first.toLowerCase()}:`)
}

/**
 * Lets lines of the message be as long as `octets`, or as connection.ini says if that is more. Returns what is in force:
 * core cuts longer ones in two. Haraka 3.2 keeps its limit to itself: there it is connection.ini's.
 */
export function allowLongLines(plugin: Plugin, octets: number): number {
  const exported = (plugin.haraka_require('connection') as { cfg?: ConnectionConfig }).cfg
  const { max } = exported ?? (plugin.config.get('connection.ini') as ConnectionConfig)
  const own = Number(max['data_line_length']) || 0
  if (own >= octets) return own
  if (exported) {
    max['data_line_length'] = octets
    return octets
  }
  plugin.logwarn(
    `connection.ini [max] data_line_length: write ${octets}; until then messages with longer lines than ${own} are refused`,
  )
  return own
}

interface ConnectionConfig {
  max: Record<string, unknown>
}

/** Core cut a line that was longer than it allows, by putting CRLF and a space into it. */
export const lineWasCut = ({ notes }: Transaction): boolean => notes['data_line_length_exceeded'] === true

/** Takes a field out of the header, also where a blank stands before the colon, which core does not see. */
export function removeField(transaction: Transaction, name: string): void {
  const fields = transaction.message_stream.headers
  const named = new RegExp(`^${name}[ \\t]*:`, 'i')
  // In one pass: core looks through all fields again for each one that it takes out.
  let kept = 0
  for (const field of fields) if (!named.test(field)) fields[kept++] = field
  fields.length = kept
  transaction.remove_header(name)
}

function pipeExactly(transaction: Transaction, filter: MessageFilter, first: string) {
  const stream = transaction.message_stream
  const pipe = stream.pipe
  stream.pipe = (destination, options = {}) => {
    if (stream.headers.length === 0 || options.skip_headers || options.clamd_style)
      return pipe.call(stream, destination, options) as typeof destination
    const stuffed = options.ending_dot || !(options.dot_stuffed ?? !options.dot_stuffing)
    const isFirst = (field: string) => field.slice(0, first.length).toLowerCase() === first
    const fields = [
      ...stream.headers.filter(isFirst),
      ...stream.headers.filter((field) => !isFirst(field)),
      '\n',
    ]
    const written = (text: string) => {
      const lines = text.replace(/\r?\n/g, options.line_endings ?? '\r\n')
      return stuffed ? lines.replace(/(^|\n)\./g, '$1..') : lines
    }
    // In one piece: a write for each line would cost more than all the rest.
    const { exact } = filter
    destination.write(
      exact.size === 0 ? Buffer.from(fields.map(written).join('')) : withExact(fields, exact, written),
    )
    return pipe.call(stream, destination, { ...options, skip_headers: true }) as typeof destination
  }
}

/** The header's octets, those of `exact` in place of the text that core has made of them. */
function withExact(
  fields: string[],
  exact: MessageFilter['exact'],
  written: (text: string) => string,
): Buffer {
  const taken = new Map<string, number>()
  const pieces = fields.map((field) => {
    const came = exact.get(field)
    if (!came) return Buffer.from(written(field))
    const at = taken.get(field) ?? 0
    taken.set(field, at + 1)
    const octets = (came[at] ?? Buffer.from(field)).toString('latin1')
    return Buffer.from(written(octets), 'latin1')
  })
  return Buffer.concat(pieces)
}
