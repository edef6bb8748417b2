// What is judged is what leaves: any octets between DATA and the final dot reach each next hop as they came, or are refused.
import assert from 'node:assert/strict'
import { Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { describe, it } from 'node:test'
import {
  allowLongLines,
  filterMessage,
  isWhollyStuffed,
  lineWasCut,
  removeField,
} from '../core/haraka/message'
import type { PipeOptions, Transaction } from '../core/haraka/types'
import { Body } from '../core/next-hop/body'
import { unstuffing } from '../plugins/domains/hooks/queued-mail'
import { MAX_FIELD, MAX_HEADER, MessageOctets } from '../plugins/domains/policy/octets'
import { arrayWork } from './support/array-work'
import { connectionOf, harakaPackage, pluginOf } from './support/connection'
import { fc, seed } from './support/random'

const RECEIVED = 'Received: from a\r\n\tby b; now\r\n'

const { plugin } = pluginOf()
/** 992 under Haraka 3.2, which cannot be told another. */
const LINE = allowLongLines(
  { ...plugin, config: harakaPackage('haraka-config') as typeof plugin.config },
  16 * 1024,
)

/** The side of Haraka's Connection that takes the message. */
interface DataSide {
  state: number
  process_data(data: Buffer): void
  data_done(): void
  respond(code: number): void
}

/** How core is told to read the header: `binary` after HELO; `late`: by a plugin, after our hook. */
const ENCODINGS = ['utf8', 'binary', 'ascii', 'late'] as const
type Encoding = (typeof ENCODINGS)[number]

interface Received {
  refused?: string
  transaction: Transaction
  octets: MessageOctets
}

/** Sends what a client writes after DATA, final dot included, through Haraka's own Connection and Transaction. */
function receive(
  wire: Buffer,
  received = RECEIVED,
  pieces = wire.length || 1,
  encoding: Encoding = 'utf8',
): Promise<Received> {
  const connection = connectionOf()
  const transaction = connection.begin('<a@b.example>')
  if (encoding !== 'late') transaction.encoding = encoding
  if (received) transaction.add_data(received)
  const octets = new MessageOctets()
  filterMessage(transaction, octets, 'X-Tag')
  if (encoding === 'late') transaction.encoding = 'latin1'
  return new Promise((resolve) => {
    const side = connection as unknown as DataSide
    side.state = 3 // states.DATA
    side.respond = (code) => resolve({ refused: `core ${code}`, transaction, octets })
    side.data_done = () =>
      transaction.end_data(() => {
        if (lineWasCut(transaction)) octets.refuse('a line was cut')
        resolve({ ...(octets.refusal && { refused: octets.refusal.text }), transaction, octets })
      })
    for (let at = 0; at < wire.length; at += pieces) side.process_data(wire.subarray(at, at + pieces))
  })
}

async function collect(write: (to: Writable) => unknown): Promise<Buffer> {
  const got: Buffer[] = []
  const to = new Writable({ write: (chunk, _, done) => done(void got.push(chunk)) })
  write(to)
  await finished(to)
  return Buffer.concat(got)
}

const piped = (transaction: Transaction, options?: PipeOptions) =>
  collect((to) => transaction.message_stream.pipe(to, options))

/** What a next hop makes of the octets on the wire (RFC 5321 4.5.2). */
function heard(wire: Buffer): string {
  const text = wire.toString('latin1')
  assert.equal(`\r\n${text}`.indexOf('\r\n.\r\n') + 3, text.length, 'one end, at the end')
  return text.slice(0, -3).replace(/(^|\n)\./g, '$1')
}

async function over(body: (to: Body) => void): Promise<string> {
  const wire: Buffer[] = []
  const to = new Body((data, done) => {
    wire.push(data)
    done()
  })
  body(to)
  await finished(to)
  return heard(Buffer.concat(wire))
}

/** The message as forwarded, and as it leaves the queue. */
async function sent({ transaction }: Received): Promise<{ forwarded: string; queued: string }> {
  const forwarded = await over((to) => void transaction.message_stream.pipe(to))
  const file = await piped(transaction, { dot_stuffed: false })
  const queued = await over((to) => {
    const out = unstuffing(isWhollyStuffed(transaction.notes))
    out.pipe(to)
    for (let at = 0; at < file.length; at += 7) out.write(file.subarray(at, at + 7))
    out.end()
  })
  // Core's own client writes the file to an MX as it is.
  assert.equal(heard(Buffer.concat([file, Buffer.from('.\r\n')])), queued)
  return { forwarded, queued }
}

const isField = (line: string) => /^[!-9;-~]+[ \t]*:/.test(line)
const DROPPED = /^(?:\.|\.\.|__proto__|constructor|prototype)[ \t]*:/i

/** The contract, written down once more: what leaves for these lines (without CRLF, dots as sent), or why nothing does. */
function expected(wireLines: string[]): string | { refused: RegExp } {
  const lines = wireLines.map((line) => line.replace(/^\./, ''))
  const bare = wireLines.findIndex((line) => /[\r\n\0]/.test(line))
  const until = bare < 0 ? lines.length : bare
  const text = (from: number) => lines.slice(from).map((line) => `${line}\r\n`)
  const length = wireLines.some((line) => line.length + 2 > LINE)
  if (length || wireLines.some((line) => line.includes('\n'))) return { refused: /./ }
  const first = lines[0]
  const none = first !== undefined && first !== '' && !isField(first)
  const end = none ? 0 : lines.indexOf('') < 0 ? lines.length : lines.indexOf('')
  const junk = lines.findIndex(
    (line, n) =>
      n < end && n < until && !(n > 0 && /^[ \t]/.test(line)) && (!isField(line) || DROPPED.test(line)),
  )
  if (junk >= 0) return { refused: /header/ }
  if (bare >= 0) return { refused: /CRLF|NUL/ }
  const header = text(0).slice(0, end)
  const body = none ? text(0) : text(end + 1)
  return `${RECEIVED}${header.join('')}\r\n${body.join('')}`
}

const hostile = fc.constantFrom('\r', '\n', '\0', '\r\r', '\r.', '\n.', '\x0b', '\x7f')
const octet = fc.integer({ min: 0x80, max: 0xff }).map((code) => String.fromCharCode(code))
const piece = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.constantFrom('a', '.', '..', ' ', '\t', ':', '<', '@', 'x y', '=?utf-8?q?a?=', '-'),
  },
  { weight: 2, arbitrary: octet },
  {
    weight: 1,
    arbitrary: fc.constantFrom(...['ö', '€', '😀', '\ufffd'].map((c) => Buffer.from(c).toString('latin1'))),
  },
)
const value = fc.array(piece, { maxLength: 8 }).map((parts) => parts.join(''))
const field = fc
  .tuple(
    fc.constantFrom('', '.', '..'),
    fc.constantFrom('From', 'from ', 'Subject', 'To\t', 'X', '__proto', 'constructor'),
    value,
  )
  .map(([dots, name, text]) => `${dots}${name}:${text}`)
const long = fc
  .tuple(
    fc.constantFrom('X: ', '', '.', '..'),
    fc.constantFrom(900, 980, 990, 998, 1000, 5000, LINE - 8, LINE),
  )
  .map(([start, length]) => `${start}${'x'.repeat(length)}`)
const headerLine = fc.oneof(
  { weight: 12, arbitrary: field },
  { weight: 3, arbitrary: value.map((text) => ` ${text}`) },
)
const bodyLine = fc.oneof(
  { weight: 8, arbitrary: value },
  { weight: 2, arbitrary: field },
  { weight: 1, arbitrary: long },
)
const anyLine = fc.oneof(
  headerLine,
  bodyLine,
  fc.constant(''),
  fc.tuple(value, hostile, value).map((parts) => parts.join('')),
)
const ordinary = fc
  .tuple(fc.array(headerLine, { maxLength: 6 }), fc.option(fc.array(bodyLine, { maxLength: 6 })))
  .map(([header, body]) => (body ? [...header, '', ...body] : header))
/** Lines as sent; one that is a dot alone would be the message's end. */
const messages = fc
  .oneof({ weight: 3, arbitrary: ordinary }, { weight: 1, arbitrary: fc.array(anyLine, { maxLength: 8 }) })
  .map((lines) => lines.filter((line) => line !== '.'))

const encodings = fc.constantFrom(...ENCODINGS)

const wireOf = (lines: string[]) => Buffer.from([...lines, '.', ''].join('\r\n'), 'latin1')

describe('a message', () => {
  it('leaves by every delivery as it came, or is refused', async () => {
    let accepted = 0
    const runs = 4000
    await fc.assert(
      fc.asyncProperty(
        messages,
        fc.integer({ min: 1, max: 3000 }),
        encodings,
        async (lines, pieces, encoding) => {
          const right = expected(lines)
          const received = await receive(wireOf(lines), RECEIVED, pieces, encoding)
          if (typeof right !== 'string') return assert.match(received.refused ?? '', right.refused)
          assert.equal(received.refused, undefined)
          accepted++
          const { forwarded, queued } = await sent(received)
          assert.equal(forwarded, right)
          assert.equal(queued, right)
          const asUtf8 = await receive(wireOf(lines), RECEIVED, pieces)
          assert.deepEqual(received.transaction.header.lines(), asUtf8.transaction.header.lines())
        },
      ),
      { seed, numRuns: runs, includeErrorInReport: true },
    )
    assert.ok(accepted > runs / 4, `${accepted} of ${runs} accepted`)
  })
})

describe('header fields that Haraka reads as the same text', () => {
  const same = fc.constantFrom('\xff', '\xfe', '\xef\xbf\xbd', '\xc3', 'a')
  it('keep their own octets and their order, valid U+FFFD among them', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(same, { maxLength: 8 }), encodings, async (values, encoding) => {
        const header = values.map((octets) => `Subject: ${octets}\r\n`).join('')
        const received = await receive(Buffer.from(`${header}\r\n.\r\n`, 'latin1'), RECEIVED, 999, encoding)
        const right = `${RECEIVED}${header}\r\n`
        assert.deepEqual(await sent(received), { forwarded: right, queued: right })
      }),
      { seed, numRuns: 300 },
    )
  })
})

describe('what is put into the header', () => {
  const wire = Buffer.from(
    'Subject: J\xf6rg\r\nX-Tag : mine\r\nx-tag: mine\r\nSubject: J\xfcrg\r\nFrom: a\r\n\r\n..b\r\n.\r\n',
    'latin1',
  )

  it('comes first for every reader, before a Received line that is added later, and a client’s own goes', async () => {
    const received = await receive(wire)
    const { transaction } = received
    removeField(transaction, 'X-Tag')
    transaction.add_leading_header('X-Tag', 'ours')
    transaction.add_leading_header('Received', 'later')
    const right = `X-Tag: ours\r\nReceived: later\r\n${RECEIVED}Subject: J\xf6rg\r\nSubject: J\xfcrg\r\nFrom: a\r\n\r\n.b\r\n`
    assert.deepEqual(await sent(received), { forwarded: right, queued: right })
  })

  it('costs no more than in proportion where a client sends the field itself, again and again', async () => {
    const works: number[] = []
    for (const count of [200, 800]) {
      const { transaction } = await receive(
        Buffer.from(`${'X-Tag: y\r\nX: y\r\n'.repeat(count / 2)}\r\n.\r\n`),
      )
      works.push(await arrayWork(() => removeField(transaction, 'X-Tag')))
      assert.equal(transaction.header.lines().length, count / 2 + 1)
    }
    assert.ok(works[1]! <= 6 * works[0]! + 10, `${works}`)
  })

  it('leaves line ends, dots and the header to who asks for them', async () => {
    const { transaction } = await receive(wire)
    const text = async (options: PipeOptions) => (await piped(transaction, options)).toString('latin1')
    assert.match(await text({ line_endings: '\n' }), /Subject: J\xf6rg\nX-Tag : mine\n[^\r]*\n\n\.b\n$/)
    assert.match(await text({ ending_dot: true }), /\r\n\r\n\.\.b\r\n\.\r\n$/)
    assert.equal(await text({ skip_headers: true }), '.b\r\n')
  })
})

describe('a message without a header', () => {
  for (const [wire, right] of [
    ['.\r\n', ''],
    ['\r\n.\r\n', '\r\n'],
    ['\r\nbody\r\n\r\nmore\r\n.\r\n', '\r\nbody\r\n\r\nmore\r\n'],
    ['hello\r\n.\r\n', '\r\nhello\r\n'],
  ] as const) {
    it(`is not taken for one where Haraka adds no Received: ${JSON.stringify(wire)}`, async () => {
      assert.deepEqual(await sent(await receive(Buffer.from(wire), '')), { forwarded: right, queued: right })
    })
    it(`keeps its body when a field is added: ${JSON.stringify(wire)}`, async () => {
      const received = await receive(Buffer.from(wire), '')
      received.transaction.add_leading_header('Date', 'now')
      const whole = `Date: now\r\n${right || '\r\n'}`
      assert.deepEqual(await sent(received), { forwarded: whole, queued: whole })
    })
  }
})

describe('a field’s name', () => {
  it('may be followed by blanks, and a continuation line has none, whatever is in it', async () => {
    const blanks = ' '.repeat(900)
    for (const header of [`X${blanks}: y`, `X\t ${blanks}: y`, `X: y\r\n${blanks}b: c`, `X: y\r\n\t:`]) {
      const received = await receive(Buffer.from(`${header}\r\n\r\n.\r\n`))
      assert.equal(received.refused, undefined, header)
      assert.equal((await sent(received)).forwarded, `${RECEIVED}${header}\r\n\r\n`)
    }
    for (const line of [`X${blanks}b: c`, `X${blanks}b`, ':', 'X\x7f: y'])
      assert.match(
        (await receive(Buffer.from(`A: b\r\n${line}\r\n\r\n.\r\n`))).refused ?? '',
        /no header field/,
      )
  })
})

describe('a header that is too large', () => {
  const field = (length: number, name = 'From') =>
    `${name}: ${'x'.repeat(length - name.length - 4)}\r\n`.replace(/x{900}(?=x)/g, `${'x'.repeat(900)}\r\n `)
  const refusal = async (header: string) => {
    const received = await receive(Buffer.from(`${header}\r\nbody\r\n.\r\n`))
    return { text: received.refused ?? '', held: received.transaction.header_lines.join('').length }
  }

  it('is refused, and no more of it than the limit reaches Haraka, which would parse it all at once', async () => {
    const cases: [string, RegExp][] = [
      [field(900_000), /field is longer than 65536/],
      [Array(90).fill(field(9000)).join(''), /header is longer than 131072/],
      [Array(2000).fill('X: y\r\n').join(''), /more than 1000 lines/],
      [`X: y\r\n${Array(2000).fill(' y\r\n').join('')}`, /more than 1000 lines/],
    ]
    for (const [header, why] of cases) {
      const { text, held } = await refusal(header)
      assert.match(text, why)
      assert.ok(held <= MAX_HEADER, `${held} octets`)
    }
    assert.equal((await refusal(field(MAX_FIELD - 500))).text, '')
    assert.equal((await refusal(Array(999).fill('X: y\r\n').join(''))).text, '')
  })
})
