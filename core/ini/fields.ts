// Typed readers for the keys of one section. Each says what is wrong and what is allowed; none guesses.
import { PrefixTable } from '../net/prefix-table'
import { parseEntry } from '../net/range'
import { type ConfigError, type IniSection, nearest } from './parse'

const DURATION = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }
const SIZE = { K: 1024, M: 1024 ** 2, G: 1024 ** 3 }

/** `250ms 90s 15m 1h 7d` in milliseconds. Throws Error. */
export function parseDuration(text: string): number {
  const [, digits, unit] = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text) ?? []
  if (!digits || !unit) throw new Error(`"${text}" is not a duration; write 250ms, 90s, 15m, 1h or 7d`)
  const ms = Number(digits) * DURATION[unit as keyof typeof DURATION]
  if (ms === 0) throw new Error('a duration of nothing has no meaning here')
  return ms
}

/** `10K 5M 2G` or a plain number, in bytes. Throws Error. */
export function parseSize(text: string): number {
  const [, digits, unit] = /^(\d{1,12})([KMG]?)$/.exec(text) ?? []
  if (!digits) throw new Error(`"${text}" is not a size; write 10K, 5M, 2G or a number of bytes`)
  return Number(digits) * (unit ? SIZE[unit as keyof typeof SIZE] : 1)
}

/** Reads the keys of one section, once each; `done()` reports the keys that nobody asked for. */
export class Fields {
  private readonly values = new Map<string, string[]>()
  private readonly asked = new Set<string>()

  constructor(
    private readonly file: string,
    private readonly section: IniSection,
    private readonly errors: ConfigError[],
  ) {
    const single = new Set<string>()
    for (const { key, value, repeatable } of section.entries) {
      if (value === undefined) {
        this.wrong(key, 'has no "="')
        continue
      }
      const before = this.values.get(key)
      if (!repeatable) single.add(key)
      if (before && single.has(key)) this.wrong(key, `is given twice; if both are meant, write ${key}[] =`)
      if (before) before.push(value)
      else this.values.set(key, [value])
    }
  }

  get name(): string {
    return this.section.name
  }

  wrong(key: string, text: string): void {
    this.errors.push({ file: this.file, section: this.section.name, key, text })
  }

  has(key: string): boolean {
    return this.values.has(key)
  }

  /** The key is there, and nothing behind it. */
  isEmpty(key: string): boolean {
    return this.values.get(key)?.every((text) => /^[\s,]*$/.test(text)) ?? false
  }

  /** A value that `parse` turns into what is meant; what it throws becomes an error, and `fallback` stands in. */
  read<T>(key: string, fallback: T, parse: (text: string) => T): T {
    this.asked.add(key)
    const given = this.values.get(key)
    if (given === undefined) return fallback
    if (given.length > 1) this.wrong(key, 'is given twice and takes one value')
    return this.attempt(key, given[0]!, parse) ?? fallback
  }

  /** `key[] =` lines and commas, as a list; elements that `parse` throws at are errors. */
  list<T>(key: string, parse: (text: string) => T | undefined): T[] {
    this.asked.add(key)
    const parts = (this.values.get(key) ?? []).flatMap((line) => line.split(','))
    return parts
      .map((part) => part.trim())
      .filter((part) => part !== '')
      .map((part) => this.attempt(key, part, parse))
      .filter((value) => value !== undefined)
  }

  flag(key: string, fallback: boolean): boolean {
    return this.read(key, fallback, (text) => {
      if (/^(true|yes|ok|on|enabled|1)$/i.test(text)) return true
      if (/^(false|no|off|disabled|0)$/i.test(text)) return false
      throw new Error(`"${text}" is neither true nor false`)
    })
  }

  choice<T extends string>(key: string, fallback: T, allowed: readonly T[]): T {
    return this.read(key, fallback, (text) => {
      const found = allowed.find((value) => value === text.toLowerCase())
      if (!found) throw new Error(`"${text}" is not one of ${allowed.join(', ')}`)
      return found
    })
  }

  duration(key: string, fallback: number): number {
    return this.read(key, fallback, parseDuration)
  }

  text(key: string, fallback = ''): string {
    return this.read(key, fallback, (text) => text)
  }

  /** A list of addresses and subnets, as a table to look clients up in. */
  subnets(key: string): PrefixTable {
    return PrefixTable.of(this.list(key, parseEntry))
  }

  done(): void {
    for (const key of this.values.keys()) {
      if (this.asked.has(key)) continue
      const near = nearest(key, this.asked)
      this.wrong(
        key,
        `is not a key of this section; ${near ? `did you mean ${near}?` : `known: ${[...this.asked].join(', ')}`}`,
      )
    }
  }

  private attempt<T>(key: string, text: string, parse: (text: string) => T): T | undefined {
    try {
      return parse(text)
    } catch (error) {
      this.wrong(key, (error as Error).message)
      return undefined
    }
  }
}

/** Finds a section by name; unknown ones are reported by `knownSections`. */
export function fieldsOf(file: string, sections: IniSection[], name: string, errors: ConfigError[]): Fields {
  const section = sections.find((s) => s.name === name) ?? { name, entries: [] }
  return new Fields(file, section, errors)
}

export function knownSections(
  file: string,
  sections: IniSection[],
  known: string[],
  errors: ConfigError[],
): void {
  for (const { name } of sections) {
    if (known.includes(name)) continue
    const near = nearest(name, known)
    errors.push({
      file,
      section: name,
      key: '',
      text: `is not a section of this file; ${near ? `did you mean [${near}]?` : `known: ${known.map((k) => `[${k}]`).join(' ')}`}`,
    })
  }
}
