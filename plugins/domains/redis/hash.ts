// A hash `domain:NAME` in Redis → Domain, by the reader of domains.ini.
import { Fields } from '../../../core/ini/fields'
import { type ConfigError, printConfigError } from '../../../core/ini/parse'
import { IN_REDIS } from '../../../core/ini/secrets'
import { readDomain, type SectionWorld } from '../section'
import { type Domain, MOST_LABELS } from '../table'

/** The fields of a hash; undefined stands for a key that is no hash. */
export type Hash = Readonly<Record<string, string>> | undefined

/** What a hash says. */
export interface HashReading {
  /** Undefined where there are errors. */
  domain?: Domain
  errors: ConfigError[]
  /** Of a bad one: what is below it may be meant, too. */
  concernsBelow: boolean
}

/** Reads the hash of a domain, whose name is in its one form. Does not throw. */
export type ReadHash = (name: string, hash: Hash) => HashReading

/** Makes the reader. */
export const hashReader =
  (world: SectionWorld): ReadHash =>
  (name, hash) => {
    const errors: ConfigError[] = []
    const section = `domain:${name}`
    const wrong = (text: string) => void errors.push({ file: IN_REDIS, section, key: '', text })
    if (!hash) {
      wrong('is no hash')
      return { errors, concernsBelow: false }
    }
    const entries = Object.entries(hash).map(([field, value], at) => ({
      key: field.replace(/\[\]$/, ''),
      value: value.trim(),
      line: at + 1,
      repeatable: field.endsWith('[]'),
    }))
    // No ini file can hold these either.
    if (Object.entries(hash).some((pair) => /[\x00-\x1f\x7f\ufffd]/.test(pair.join('').trim())))
      wrong('holds a control character, or what is not UTF-8')
    const fields = new Fields(IN_REDIS, { name: section, line: 0, entries }, errors)
    const domain = readDomain(fields, { name, file: IN_REDIS, section }, world)
    if (domain.subdomains && name.split('.').length > MOST_LABELS)
      fields.wrong('subdomains', `has no effect on a name of more than ${MOST_LABELS} labels`)
    const concernsBelow = !/^(?:false|no|off|disabled|0)?$/i.test(hash['subdomains']?.trim() ?? '')
    return errors.length > 0 ? { errors, concernsBelow } : { domain, errors, concernsBelow }
  }

/** The errors of one hash in one line, `Redis [domain:example.com] tls: is not one of …`. No value is in it. */
export const printHashErrors = (errors: ConfigError[]): string => errors.map(printConfigError).join('; ')
