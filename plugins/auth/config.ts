// auth.ini → AuthConfig

import { Fields, fieldsOf, knownSections } from '../../core/ini/fields'
import type { Reading } from '../../core/ini/reading'
import { normalAddress, normalDomain } from '../../core/mail-address'
import type { PrefixTable } from '../../core/net/prefix-table'
import { identity, namesOf } from './identity'
import { decoyOf, type PasswordHash, parseHash } from './passwords'

const FILE = 'auth.ini'

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
  }
  main.done()
  const realm = config.realm || firstDomain
  /** Keys of [users] that are NAME@realm, by NAME. */
  const inFull = new Map<string, { fields: Fields; key: string }>()
  for (const section of sections) {
    const { name, entries } = section
    if (name !== 'senders' && name !== 'users') continue
    const fields = new Fields(FILE, section, errors, { keysAreNames: true })
    for (const key of new Set(entries.map((entry) => entry.key))) {
      const user = identity(key, undefined)
      if (/^@|@$/.test(user)) fields.wrong(key, 'is not the name of a user')
      const twice = name === 'users' ? config.users.has(user) : config.senders.has(user)
      if (twice) fields.wrong(key, 'is given twice (names do not differ by case)')
      const short = user.includes('@') ? namesOf(user, realm)[1] : undefined
      if (name === 'users' && short !== undefined) inFull.set(short, { fields, key })
      if (name === 'senders') config.senders.set(user, fields.list(key, senderPattern))
      else fields.read(key, undefined, (text) => void config.users.set(user, parseHash(text)))
    }
  }
  for (const [short, { fields, key }] of inFull)
    if (config.users.has(short))
      fields.wrong(key, 'is the same user as in a line without @, where NAME is NAME@realm')
  config.decoy = decoyOf(config.users.values())
  return config
}

/** `anna@example.org`, or `@example.org` for every address of a domain. */
const senderPattern = (text: string): string =>
  text.startsWith('@') ? `@${normalDomain(text.slice(1))}` : normalAddress(text)
