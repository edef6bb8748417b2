// auth.ini → AuthConfig

import { Fields, fieldsOf, knownSections } from '../../core/ini/fields'
import type { Reading } from '../../core/ini/reading'
import { normalAddress, normalDomain } from '../../core/mail-address'
import type { PrefixTable } from '../../core/net/prefix-table'
import { identity } from './identity'
import { type PasswordHash, parseHash } from './passwords'

const FILE = 'auth.ini'

export interface AuthConfig {
  requireTls: boolean
  plaintextAllowed: PrefixTable
  sender: 'any' | 'domain' | 'address'
  /** Lower-case name or address → addresses, and `@domain` for all of a domain. */
  senders: Map<string, string[]>
  users: Map<string, PasswordHash>
  /** '' means: the first of our domains. */
  realm: string
}

export function readAuth({ sections, errors }: Reading): AuthConfig {
  knownSections(FILE, sections, ['main', 'senders', 'users'], errors)
  const main = fieldsOf(FILE, sections, 'main', errors)
  const config: AuthConfig = {
    requireTls: main.flag('require_tls', true),
    plaintextAllowed: main.subnets('plaintext_allowed'),
    sender: main.choice('sender', 'address', ['any', 'domain', 'address']),
    realm: main.read('realm', '', (text) => text && normalDomain(text)),
    senders: new Map(),
    users: new Map(),
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
      if (name === 'senders') config.senders.set(user, fields.list(key, senderPattern))
      else fields.read(key, undefined, (text) => void config.users.set(user, parseHash(text)))
    }
  }
  return config
}

/** `anna@example.org`, or `@example.org` for every address of a domain. */
const senderPattern = (text: string): string =>
  text.startsWith('@') ? `@${normalDomain(text.slice(1))}` : normalAddress(text)
