// auth.ini → AuthConfig

import { Fields, fieldsOf, knownSections } from '../../core/ini/fields'
import type { ConfigError } from '../../core/ini/parse'
import type { Reading } from '../../core/ini/reading'
import { normalAddress, normalDomain } from '../../core/mail-address'
import type { PrefixTable } from '../../core/net/prefix-table'
import { identity, namesOf } from './identity'
import { decoyOf, type PasswordHash, parseHash } from './passwords'

const FILE = 'auth.ini'
const SAME_USER = 'is the same user as in a line without @, where NAME is NAME@realm'

/** auth.ini, read. */
export interface AuthConfig {
  requireTls: boolean
  plaintextAllowed: PrefixTable
  sender: 'any' | 'domain' | 'address'
  /** Lower-case name or address → addresses, and `@domain` for all of a domain. */
  senders: Map<string, string[]>
  users: Map<string, PasswordHash>
  /** Checked in place of the hash of a name that is not in `users`. */
  decoy: PasswordHash
  /** '' means: the first of our domains. */
  realm: string
  /** Keys of [users] with @, each with its error where it is the same user as a key without. */
  inFull: { user: string; error: ConfigError }[]
}

/**
 * The users of [users] who stand there twice, as NAME and as NAME@realm. `firstDomain`: the realm where the file names
 * none; it may be known only later, or change, and then this is asked again.
 */
export function usersGivenTwice({ realm, inFull, users }: AuthConfig, firstDomain?: string): ConfigError[] {
  const isTwice = (user: string) => users.has(namesOf(user, realm || firstDomain)[1] ?? '')
  return inFull.filter(({ user }) => isTwice(user)).map(({ error }) => error)
}

/** The configuration; errors go to the reading's list. `firstDomain`: the realm where the file names none, if known. */
export function readAuth({ sections, errors }: Reading, firstDomain?: string): AuthConfig {
  knownSections(FILE, sections, ['main', 'senders', 'users'], errors)
  const main = fieldsOf(FILE, sections, 'main', errors)
  const config: AuthConfig = {
    requireTls: main.flag('require_tls', true),
    plaintextAllowed: main.subnets('plaintext_allowed'),
    sender: main.choice('sender', 'address', ['any', 'domain', 'address']),
    realm: main.read('realm', '', (text) => text && normalDomain(text)),
    senders: new Map(),
    users: new Map(),
    decoy: decoyOf([]),
    inFull: [],
  }
  main.done()
  for (const section of sections) {
    const { name, entries } = section
    if (name !== 'senders' && name !== 'users') continue
    const fields = new Fields(FILE, section, errors, { keysAreNames: true })
    for (const key of new Set(entries.map((entry) => entry.key))) {
      const user = identity(key, undefined)
      if (/^@|@$/.test(user)) fields.wrong(key, 'is not the name of a user')
      const twice = name === 'users' ? config.users.has(user) : config.senders.has(user)
      if (twice) fields.wrong(key, 'is given twice (names do not differ by case)')
      const line = entries.filter((entry) => entry.key === key).at(-1)?.line
      if (name === 'users' && user.includes('@'))
        config.inFull.push({
          user,
          error: { file: FILE, section: name, key: `line ${line}`, text: SAME_USER },
        })
      if (name === 'senders') config.senders.set(user, fields.list(key, senderPattern))
      else fields.read(key, undefined, (text) => void config.users.set(user, parseHash(text)))
    }
  }
  errors.push(...usersGivenTwice(config, firstDomain))
  config.decoy = decoyOf(config.users.values())
  return config
}

/** `anna@example.org`, or `@example.org` for every address of a domain. */
const senderPattern = (text: string): string =>
  text.startsWith('@') ? `@${normalDomain(text.slice(1))}` : normalAddress(text)
