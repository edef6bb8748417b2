// Which MAIL FROM an authenticated user may use, and when AUTH may be spoken at all.

import type { Decision } from '../../core/decision'
import { domainOf, unquoted, withoutTag } from '../../core/mail-address'
import type { Mailbox, Party } from '../../core/party'
import type { AuthConfig } from './config'
import { identity, namesOf } from './identity'

/** True where `user` may send as `sender`. The null sender is everybody's; a bare <postmaster> is the realm's. */
export function ownsSender(
  config: AuthConfig,
  user: string,
  sender: Mailbox,
  realm: string | undefined,
): boolean {
  if (config.sender === 'any' || (sender.user === '' && sender.host === '')) return true
  const host = sender.host === '' ? realm : domainOf(sender.host)
  if (host === undefined) return false
  const local = unquoted(sender.user).toLowerCase()
  const own = identity(user, realm)
  const listed = namesOf(user, realm).flatMap((name) => config.senders.get(name) ?? [])
  // A login called @example.com is a name, and not all of a domain.
  const allowed = own.lastIndexOf('@') > 0 ? [own, ...listed] : listed
  return allowed.some((pattern) => {
    const at = pattern.lastIndexOf('@')
    if (pattern.slice(at + 1) !== host) return false
    return (
      at === 0 ||
      config.sender === 'domain' ||
      pattern.slice(0, at) === withoutTag(local) ||
      pattern.slice(0, at) === local
    )
  })
}

/** The refusal of a sender that is not one of the user's own addresses. */
export const notYours = (config: AuthConfig, user: string, sender: string): Decision => ({
  outcome: 'sender.not-owned',
  code: 550,
  status: '5.7.1',
  text: `${user} may not send as <${sender}>`,
  rule: { file: 'auth.ini', section: 'main', key: `sender = ${config.sender}` },
})

/** True where a password may be given: over TLS, or by a client in `plaintext_allowed`. */
export const isProtected = (
  { requireTls, plaintextAllowed }: AuthConfig,
  { tls, ip }: Pick<Party, 'tls' | 'ip'>,
): boolean => tls || !requireTls || plaintextAllowed.lookup(ip) >= 0

/** Why AUTH is refused now, or undefined (RFC 4954 4: once a session, never inside a transaction). */
export function refuseAuth(config: AuthConfig, party: Party, inTransaction: boolean): Decision | undefined {
  if (!isProtected(config, party)) return TLS_REQUIRED
  if (inTransaction) return IN_TRANSACTION
  return party.user === undefined ? undefined : LOGGED_IN
}

const refusal = (outcome: string, code: number, status: string, text: string, key: string): Decision => ({
  outcome,
  code,
  status,
  text,
  rule: { file: 'auth.ini', section: key === 'users' ? key : 'main', key: key === 'users' ? '' : key },
})

const TLS_REQUIRED = refusal(
  'auth.tls-required',
  538,
  '5.7.11',
  'Encryption is required for AUTH: say STARTTLS first',
  'require_tls',
)
const IN_TRANSACTION = refusal(
  'auth.in-transaction',
  503,
  '5.5.1',
  'AUTH is not allowed inside a mail transaction',
  'RFC 4954',
)
const LOGGED_IN = refusal('auth.again', 503, '5.5.1', 'You are logged in already', 'RFC 4954')

/** The client has ended the dialogue by `*`. */
export const CANCELLED = refusal('auth.cancelled', 501, '5.7.0', 'AUTH was cancelled', 'RFC 4954')
/** No message of the mechanism (RFC 4954 4). */
export const malformed = (text: string): Decision => refusal('auth.malformed', 501, '5.5.2', text, 'RFC 4954')
/** AUTH without a word behind it. */
export const NO_MECHANISM = refusal('auth.malformed', 501, '5.5.4', 'AUTH needs a mechanism', 'RFC 4954')
/** RFC 4954 4: one that the server does not offer. */
export const UNKNOWN_MECHANISM = refusal(
  'auth.malformed',
  504,
  '5.5.4',
  'This mechanism is not offered',
  'RFC 4954',
)
/** The password of [users] is wrong, or there is no such name. */
export const FAILED = refusal('auth.failed', 535, '5.7.8', 'Authentication failed', 'users')
/** Whether the password is right could not be found out in time: no failed login. */
export const CANNOT_TELL = refusal(
  'auth.unavailable',
  454,
  '4.7.0',
  'Temporary authentication failure, try again later',
  'users',
)
