// The strict reader of our ini files, for the server and the command alike. Haraka's own reader drops lines that
// it cannot read, lets the last of two equal keys win, and turns 0123 into 123: here each of these is an error.
import { linesOf } from '../lines'
import { clean } from '../text'
import { shownLine, shownSection, withoutLogins } from './secrets'

/** One thing wrong in a file. Whoever makes one shows nothing in it that ./secrets would not. */
export interface ConfigError {
  file: string
  /** '' for the file as a whole. */
  section: string
  /** '' for the section as a whole; `line 7` where the key is not to be shown, or is none. */
  key: string
  text: string
}

/** One line for the operator, `acl.ini [relay] 10.0.0.0/33: prefix longer than 32`, safe to print. */
export const printConfigError = ({ file, section, key, text }: ConfigError): string =>
  clean(withoutLogins(`${file}${section && ` [${section}]`}${key && ` ${clean(key, 200)}`}: ${text}`), 1000)

interface IniEntry {
  key: string
  /** Counted from 1. */
  line: number
  /** undefined: the line had no `=`. */
  value: string | undefined
  /** Written `key[] = …`, so it may be given several times. */
  repeatable: boolean
}

/** A section of an ini file, with its keys in their order. */
export interface IniSection {
  name: string
  /** Where it begins, counted from 1. */
  line: number
  entries: IniEntry[]
}

/**
 * Splits the text of an ini file into sections. Lines before the first section belong to [main], as in Haraka.
 * Comments: lines that start with `;` or `#`, and ` ;` behind a value. Pushes errors, and does not throw.
 */
export function parseIni(file: string, text: string, errors: ConfigError[]): IniSection[] {
  const wrong = (section: IniSection | undefined, key: string, what: string) =>
    errors.push({ file, section: section ? shownSection(file, section) : '', key, text: what })
  if (text.trim() === '') {
    wrong(undefined, '', 'is empty; to go back to the defaults, remove the file and restart Haraka')
    return []
  }
  if (/\0|\ufffd/.test(text)) {
    wrong(undefined, '', 'is not a text file in UTF-8')
    return []
  }
  const sections = new Map<string, IniSection>()
  let current: IniSection | undefined
  let number = 0
  for (const raw of linesOf(text)) {
    const line = raw.trim()
    number++
    if (line === '' || line[0] === ';' || line[0] === '#') continue
    // [2001:db8::1]:25 is a key.
    if (line[0] === '[' && !/^\[[^\]]*\]:\d/.test(line)) {
      const name = /^\[([^[\]]+)\](?:\s+;.*)?$/s.exec(line)?.[1]?.trim()
      if (!name) {
        wrong(current, `line ${number}`, shownLine(file, clean(line, 200)))
        continue
      }
      const isTwice = sections.has(name)
      current = { name, line: number, entries: [] }
      if (isTwice) wrong(current, '', 'the section is there twice; put its lines together')
      sections.set(name, current)
      continue
    }
    if (!current) {
      current = { name: 'main', line: number, entries: [] }
      sections.set('main', current)
    }
    const entry = parseEntry(line)
    if (entry) current.entries.push({ ...entry, line: number })
    else wrong(current, `line ${number}`, shownLine(file, clean(line, 200)))
  }
  return [...sections.values()]
}

/** `key = value`, `key[] = value` or a bare `key`. A key may hold `=` itself (VERP) where ` = ` divides the line. */
function parseEntry(line: string): Omit<IniEntry, 'line'> | undefined {
  const bare = line.replace(/(?<!\s)\s+;.*$/s, '')
  const spaced = bare.search(/\s=(?:\s|$)/)
  const at = spaced >= 0 ? spaced + 1 : bare.indexOf('=')
  let key = (at < 0 ? bare : bare.slice(0, at)).trim()
  const repeatable = key.endsWith('[]')
  if (repeatable) key = key.slice(0, -2).trim()
  if (key === '' || /[\s\x00-\x1f]/.test(key) || (repeatable && at < 0)) return undefined
  return { key, value: at < 0 ? undefined : bare.slice(at + 1).trim(), repeatable }
}
