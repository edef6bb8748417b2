// Typed readers for the keys of one section. Each says what is wrong and what is allowed; none guesses.
import { PrefixTable } from '../net/prefix-table'
import { ALLOWED, parseEntry, type Range } from '../net/range'
import { ValueError } from '../text'
import { nearest } from './nearest'
import type { ConfigError, IniSection } from './parse'
import { holdsSecrets, shownKey, shownSection } from './secrets'

const DURATION = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** `250ms 90s 15m 1h 7d` in milliseconds. Throws ValueError. */
export function parseDuration(text: string): number {
  const [, digits, unit] = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text) ?? []
  if (!digits || !unit) throw new ValueError('is not a duration; write 250ms, 90s, 15m, 1h or 7d', text)
  const ms = Number(digits) * DURATION[unit as keyof typeof DURATION]
  if (ms === 0) throw new ValueError('a duration of nothing has no meaning here')
  return ms
}

/** How the reasons of `parseEntry` begin, as far as they repeat nothing of the entry. */
const SUBNET_REASON =
  /: (host bits are set|the netmask has holes|the range runs backwards|prefix longer than \d+)/

/** Throws ValueError: its message repeats the entry, its problem does not. */
function parseSubnet(text: string): Range {
  try {
    return parseEntry(text)
  } catch (error) {
    const { message } = error as Error
    const reason = SUBNET_REASON.exec(message)?.[1] ?? 'is no address or subnet'
    throw Object.assign(new ValueError(`${reason}; ${ALLOWED}`), { message })
  }
}

/** What is wrong with a value, in words that may be shown for its file. */
function sayProblem(file: string, error: unknown): string {
  if (!holdsSecrets(file)) return (error as Error).message
  return error instanceof ValueError ? error.problem : 'cannot be used'
}

/**
 * Reads the keys of one section, once each; `done()` reports the keys that nobody asked for. Errors go to the list
 * that it was given; in a file that can hold passwords they show no value, and no key that is not a known one.
 */
export class Fields {
  private readonly values = new Map<string, string[]>()
  private readonly lines = new Map<string, number>()
  /** Keys without `[]` among those given more than once, and keys without `=`. */
  private readonly twice = new Set<string>()
  private readonly bare = new Set<string>()
  private readonly asked = new Set<string>()

  constructor(
    private readonly file: string,
    private readonly section: IniSection,
    private readonly errors: ConfigError[],
    /** The keys are names that the operator chose, as those of users. */
    private readonly options: { keysAreNames?: boolean } = {},
  ) {
    const single = new Set<string>()
    for (const { key, line, value, repeatable } of section.entries) {
      this.lines.set(key, line)
      if (value === undefined) {
        this.bare.add(key)
        continue
      }
      const before = this.values.get(key)
      if (!repeatable) single.add(key)
      if (before && single.has(key)) this.twice.add(key)
      if (before) before.push(value)
      else this.values.set(key, [value])
    }
  }

  /** The section's name, as it was written. */
  get name(): string {
    return this.section.name
  }

  /** Adds an error of a key, or with '' of the section. `text` repeats nothing of the file. */
  wrong(key: string, text: string): void {
    const known = this.options.keysAreNames ? [] : this.asked
    this.errors.push({
      file: this.file,
      section: shownSection(this.file, this.section),
      key: key && shownKey(this.file, key, this.lines.get(key) ?? this.section.line, known),
      text,
    })
  }

  /** The key is there, with a value. */
  has(key: string): boolean {
    return this.values.has(key)
  }

  /** The key is there, and nothing behind it. */
  isEmpty(key: string): boolean {
    return this.values.get(key)?.every((text) => /^[\s,]*$/.test(text)) ?? false
  }

  /**
   * A value that `parse` turns into what is meant; what it throws becomes an error, and `fallback` stands in.
   * `example`: how several values are written in one line, where that has a meaning.
   */
  read<T>(key: string, fallback: T, parse: (text: string) => T, example?: string): T {
    const isFirst = this.ask(key)
    const given = this.values.get(key)
    if (given === undefined) return fallback
    if (given.length > 1 && isFirst)
      this.wrong(
        key,
        example ? `is given twice; write one line, ${example}` : 'is given twice and takes one value',
      )
    return this.attempt(key, given[0]!, parse) ?? fallback
  }

  /** `key[] =` lines and commas, as a list; elements that `parse` throws at are errors. */
  list<T>(key: string, parse: (text: string) => T | undefined): T[] {
    if (this.ask(key) && this.twice.has(key)) {
      const shown =
        shownKey(this.file, key, 0, this.options.keysAreNames ? [] : this.asked) === key ? key : 'KEY'
      this.wrong(key, `is given twice; if both are meant, write ${shown}[] =`)
    }
    const parts = (this.values.get(key) ?? []).flatMap((line) => line.split(','))
    return parts
      .map((part) => part.trim())
      .filter((part) => part !== '')
      .map((part, index) => this.attempt(key, part, parse, index + 1))
      .filter((value) => value !== undefined)
  }

  /** A boolean, in the words that Haraka knows. */
  flag(key: string, fallback: boolean): boolean {
    return this.read(key, fallback, (text) => {
      if (/^(true|yes|ok|on|enabled|1)$/i.test(text)) return true
      if (/^(false|no|off|disabled|0)$/i.test(text)) return false
      throw new ValueError('is neither true nor false', text)
    })
  }

  /** One of some words. */
  choice<T extends string>(key: string, fallback: T, allowed: readonly T[]): T {
    return this.read(key, fallback, (text) => {
      const found = allowed.find((value) => value === text.toLowerCase())
      if (!found) throw new ValueError(`is not one of ${allowed.join(', ')}`, text)
      return found
    })
  }

  /** A duration in ms. */
  duration(key: string, fallback: number): number {
    return this.read(key, fallback, parseDuration)
  }

  /** Any text, as it was written. */
  text(key: string, fallback = ''): string {
    return this.read(key, fallback, (text) => text)
  }

  /** A list of addresses and subnets, as a table to look clients up in. */
  subnets(key: string): PrefixTable {
    return PrefixTable.of(this.list(key, parseSubnet))
  }

  /** Reports the keys that nobody asked for, with the nearest one that somebody did ask for. */
  done(): void {
    for (const key of this.bare) if (!this.asked.has(key)) this.wrong(key, 'has no "="')
    for (const key of this.values.keys()) {
      if (this.asked.has(key)) continue
      const near = nearest(key, this.asked)
      const hint = near ? `did you mean ${near}?` : `known: ${[...this.asked].join(', ')}`
      this.wrong(key, `is not a key of this section; ${hint}`)
    }
  }

  /** True the first time: errors of the key as a whole are reported once. */
  private ask(key: string): boolean {
    if (this.asked.has(key)) return false
    this.asked.add(key)
    if (this.bare.has(key)) this.wrong(key, 'has no "="')
    return true
  }

  /** `number`: of an element in its list; where elements are not shown it tells which one is meant. */
  private attempt<T>(key: string, text: string, parse: (text: string) => T, number = 1): T | undefined {
    try {
      return parse(text)
    } catch (error) {
      const which = number > 1 && holdsSecrets(this.file) ? `number ${number}: ` : ''
      this.wrong(key, which + sayProblem(this.file, error))
      return undefined
    }
  }
}

/** The keys of a section; one that is not there has none. */
export function fieldsOf(file: string, sections: IniSection[], name: string, errors: ConfigError[]): Fields {
  const section = sections.find((s) => s.name === name) ?? { name, line: 0, entries: [] }
  return new Fields(file, section, errors)
}

/** Reports the sections that a file cannot have, with the nearest one that it can. */
export function knownSections(
  file: string,
  sections: IniSection[],
  known: string[],
  errors: ConfigError[],
): void {
  for (const section of sections) {
    if (known.includes(section.name)) continue
    const near = nearest(section.name, known)
    const hint = near ? `did you mean [${near}]?` : `known: ${known.map((k) => `[${k}]`).join(' ')}`
    errors.push({
      file,
      section: shownSection(file, section),
      key: '',
      text: `is not a section of this file; ${hint}`,
    })
  }
}
