// What an error may show of a file that can hold passwords: no value, and a name only where it cannot be one. A slip
// of the finger moves a password anywhere in its file, so it is the file that counts, not the key.
import { nearest } from './nearest'

/** What errors about a domain's hash in Redis name in place of a file. */
export const IN_REDIS = 'Redis'

/** Files with passwords or their hashes, and the sections that they can have. */
const WITH_SECRETS: Record<string, string[]> = {
  'auth.ini': ['main', 'senders', 'users'],
  'domains.ini': ['main'],
  'redis.ini': ['redis', 'log'],
  'config/redis.ini': [],
  [IN_REDIS]: [],
}

/** True where an error of this file, named as in errors, shows no value. */
export const holdsSecrets = (file: string): boolean => Object.hasOwn(WITH_SECRETS, file)

/** A known name, or one that could only be meant as one: cut short, or one or two characters away. */
function isSlipOf(name: string, known: Iterable<string>): boolean {
  return [...known].some((each) => {
    const isExtended = name.length > each.length + 1 && (name.startsWith(each) || name.endsWith(each))
    return each.startsWith(name) || (!isExtended && nearest(name, [each], 2) !== undefined)
  })
}

/** A domain name in some form: dots, and nothing that a login or a URL has. */
const isDomainLike = (name: string): boolean => /^(?:\*\.)?[\p{L}\d_-]+(?:\.[\p{L}\d_-]+)+\.?$/u.test(name)

/** A key as errors show it: itself, or its line; of a hash its place. `known`: the keys that the section can have. */
export function shownKey(file: string, key: string, line: number, known: Iterable<string>): string {
  if (!holdsSecrets(file) || isSlipOf(key, known)) return key
  return file === IN_REDIS ? `field ${line}` : `line ${line}`
}

/** A section as errors show it: its name, or its line. */
export function shownSection(file: string, { name, line }: { name: string; line: number }): string {
  const known = WITH_SECRETS[file]
  // The name of a domain that was looked up.
  if (file === IN_REDIS) return name
  if (!known || isSlipOf(name, known) || (file === 'domains.ini' && isDomainLike(name))) return name
  return `line ${line}`
}

/** A line that cannot be read, behind its number. */
export const shownLine = (file: string, line: string): string =>
  holdsSecrets(file)
    ? 'cannot be read; a line is [SECTION], KEY = VALUE or a comment'
    : `cannot be read: ${line}`

/** Takes out what looks like a login, `NAME:PASSWORD@`, which may have come into any file. */
export const withoutLogins = (text: string): string =>
  text
    .split(/([\s"']+)/)
    .map((word) => {
      const [colon, at] = [word.indexOf(':'), word.lastIndexOf('@')]
      return colon >= 0 && colon < at ? `…${word.slice(at)}` : word
    })
    .join('')
