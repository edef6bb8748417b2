// The strict reader of our ini files, for the server and the command alike. Haraka's own reader drops lines that
// it cannot read, lets the last of two equal keys win, and turns 0123 into 123: here each of these is an error.
import { clean } from '../text'

/** One thing wrong in a file. Prints as `acl.ini [relay] 10.0.0.0/33: prefix longer than 32`. */
export interface ConfigError {
  file: string
  section: string
  key: string
  text: string
}

export const printConfigError = ({ file, section, key, text }: ConfigError): string =>
  clean(`${file}${section && ` [${section}]`}${key && ` ${clean(key, 200)}`}: ${text}`, 1000)

interface IniEntry {
  key: string
  /** undefined: the line had no `=`. */
  value: string | undefined
  /** Written `key[] = …`, so it may be given several times. */
  repeatable: boolean
}

export interface IniSection {
  name: string
  entries: IniEntry[]
}

/**
 * Splits the text of an ini file into sections. Lines before the first section belong to [main], as in Haraka.
 * Comments: lines that start with `;` or `#`, and ` ;` behind a value.
 */
export function parseIni(file: string, text: string, errors: ConfigError[]): IniSection[] {
  const wrong = (section: string, key: string, what: string) =>
    errors.push({ file, section, key, text: what })
  if (text.trim() === '') {
    wrong('', '', 'is empty; to go back to the defaults, remove the file and restart Haraka')
    return []
  }
  if (/\0|\ufffd/.test(text)) {
    wrong('', '', 'is not a text file in UTF-8')
    return []
  }
  const sections = new Map<string, IniSection>()
  let current: IniSection | undefined
  for (const [index, raw] of text
    .replace(/^\ufeff/, '')
    .split(/\r\n|\n|\r/)
    .entries()) {
    const line = raw.trim()
    if (line === '' || line[0] === ';' || line[0] === '#') continue
    // [2001:db8::1]:25 is a key.
    if (line[0] === '[' && !/^\[[^\]]*\]:\d/.test(line)) {
      const name = /^\[([^[\]]+)\](?:\s+;.*)?$/s.exec(line)?.[1]?.trim()
      if (!name) {
        wrong(current?.name ?? '', `line ${index + 1}`, `cannot be read: ${clean(line, 200)}`)
        continue
      }
      if (sections.has(name)) wrong(name, '', 'the section is there twice; put its lines together')
      current = { name, entries: [] }
      sections.set(name, current)
      continue
    }
    if (!current) {
      current = { name: 'main', entries: [] }
      sections.set('main', current)
    }
    const entry = parseEntry(line)
    if (entry) current.entries.push(entry)
    else wrong(current.name, `line ${index + 1}`, `cannot be read: ${clean(line, 200)}`)
  }
  return [...sections.values()]
}

/** `key = value`, `key[] = value` or a bare `key`. A key may hold `=` itself (VERP) where ` = ` divides the line. */
function parseEntry(line: string): IniEntry | undefined {
  const bare = line.replace(/(?<!\s)\s+;.*$/s, '')
  const spaced = bare.search(/\s=(?:\s|$)/)
  const at = spaced >= 0 ? spaced + 1 : bare.indexOf('=')
  let key = (at < 0 ? bare : bare.slice(0, at)).trim()
  const repeatable = key.endsWith('[]')
  if (repeatable) key = key.slice(0, -2).trim()
  if (key === '' || /[\s\x00-\x1f]/.test(key) || (repeatable && at < 0)) return undefined
  return { key, value: at < 0 ? undefined : bare.slice(at + 1).trim(), repeatable }
}

/** The known name that is nearest to a mistyped one, or undefined where none is near. */
export function nearest(name: string, known: Iterable<string>): string | undefined {
  let best: string | undefined
  let least = Math.max(2, Math.floor(name.length / 3)) + 1
  for (const candidate of known) {
    const far = distance(name.toLowerCase(), candidate.toLowerCase())
    if (far < least) {
      least = far
      best = candidate
    }
  }
  return best
}

/** Levenshtein's edit distance. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)))
    }
    row = next
  }
  return row[b.length]!
}
