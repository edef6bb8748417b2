// overload.ini → the marks at which mail is refused.
import { type Fields, fieldsOf, knownSections, parseDuration } from '../../core/ini/fields'
import type { Reading } from '../../core/ini/reading'
import { ValueError } from '../../core/text'

/** overload.ini. */
export const FILE = 'overload.ini'

/** What is measured. */
export const KINDS = ['disk', 'inodes', 'queue', 'connections', 'delay', 'memory'] as const
export type Kind = (typeof KINDS)[number]

/** The line of overload.ini that sets each mark, and what holds where it is not written. */
export const LINES: Record<Kind, { section: string; key: string; usual: string }> = {
  disk: { section: 'disk', key: 'min_free', usual: '1G' },
  inodes: { section: 'disk', key: 'min_free_inodes', usual: '5%' },
  queue: { section: 'queue', key: 'max_files', usual: '20000' },
  connections: { section: 'load', key: 'max_connections', usual: '1000' },
  delay: { section: 'load', key: 'max_delay', usual: '200ms' },
  memory: { section: 'load', key: 'max_memory', usual: '1G' },
}

/** One mark. */
export interface Mark {
  /** Bytes, files, connections or ms; percent of the whole file system where `isPercent`. */
  limit: number
  isPercent: boolean
  /** As it was written. */
  text: string
}

/** The marks that are not `off`. */
export type OverloadConfig = Partial<Record<Kind, Mark>>

const SIZES: Record<string, number> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 }
const READERS: Record<Kind, { read(text: string): number | undefined; allowed: string; percent?: true }> = {
  disk: {
    read: readSize,
    allowed: 'a size (500M, 2G), a part of the file system (5%) or off',
    percent: true,
  },
  inodes: { read: readCount, allowed: 'a part of all (5%), a whole number or off', percent: true },
  queue: { read: readCount, allowed: 'a whole number or off' },
  connections: { read: readCount, allowed: 'a whole number or off' },
  delay: { read: parseDuration, allowed: '250ms, 1s or off' },
  memory: { read: readSize, allowed: 'a size (500M, 2G) or off' },
}

/** Reads overload.ini; errors go to `reading.errors`. */
export function readOverload({ sections, errors }: Reading): OverloadConfig {
  const names = [...new Set(Object.values(LINES).map(({ section }) => section))]
  knownSections(FILE, sections, names, errors)
  const fields = new Map(names.map((name) => [name, fieldsOf(FILE, sections, name, errors)]))
  const config: OverloadConfig = {}
  for (const kind of KINDS) {
    const mark = readMark(kind, fields.get(LINES[kind].section)!)
    if (mark !== OFF) config[kind] = mark
  }
  for (const section of fields.values()) section.done()
  return config
}

const OFF: Mark = { limit: 0, isPercent: false, text: 'off' }

function readMark(kind: Kind, fields: Fields): Mark {
  const { key, usual } = LINES[kind]
  return fields.read(key, parseMark(kind, usual), (text) => parseMark(kind, text))
}

/** Throws ValueError. */
function parseMark(kind: Kind, text: string): Mark {
  if (/^off$/i.test(text)) return OFF
  const { read, allowed, percent } = READERS[kind]
  const [, part] = /^(\d{1,2}(?:\.\d{1,3})?)%$/.exec(text) ?? []
  const limit = part !== undefined && percent ? Number(part) : read(text)
  if (limit === undefined || !Number.isSafeInteger(Math.floor(limit)))
    throw new ValueError(`is not allowed here; write ${allowed}`, text)
  if (limit === 0) throw new ValueError(`has no meaning; write off, or ${allowed}`, text)
  return { limit, isPercent: part !== undefined, text }
}

function readSize(text: string): number | undefined {
  const [, digits, unit = ''] = /^(\d{1,12})([KMG]?)$/i.exec(text) ?? []
  return digits === undefined ? undefined : Number(digits) * SIZES[unit.toUpperCase()]!
}

function readCount(text: string): number | undefined {
  return /^\d{1,12}$/.test(text) ? Number(text) : undefined
}
