// The right to relay, as a pure function of what is known of a client.
import type { Rule } from './decision'

/** What acl.ini says of a client. `nobody`: nothing in particular. */
export interface Classification {
  class: 'reject' | 'never' | 'relay' | 'nobody'
  /** The entry that decided. */
  rule?: Rule
  /** The operator's own words about the entry. */
  label?: string
}

/** The two ends of a connection, as far as acl.ini reads them. */
export interface Client {
  ip: string
  /** After XCLIENT without DESTADDR and DESTPORT: undefined. */
  localIp: string | undefined
  localPort: number | undefined
}

/** All that the right to relay depends on. */
export interface RightFacts {
  classification: Classification
  /** A right set outside of a transaction: by AUTH, or by another plugin for this client. */
  granted: boolean
  /** Another plugin took the right away for this transaction. */
  revoked: boolean
}

/** True where this client may send mail to domains that are not ours. [never] beats every right; in doubt false. */
export function mayRelay({ classification, granted, revoked }: RightFacts): boolean {
  if (revoked) return false
  if (classification.class === 'never' || classification.class === 'reject') return false
  return classification.class === 'relay' || granted
}

/** True where a client in [never] may hand in mail to our domains on a submission port (RFC 6409): it has logged in. */
export const maySubmit = (facts: { classification: Classification; user: string | undefined }): boolean =>
  facts.classification.class === 'never' && facts.user !== undefined

/** Which line gives the right to relay: an entry of acl.ini, else the login, else another plugin. */
export function relayRule({ rule }: Classification, user: string | undefined): Rule {
  if (rule) return rule
  if (user !== undefined) return { file: 'AUTH', section: 'user', key: user }
  return { file: 'config/plugins', section: 'another plugin', key: 'relaying' }
}
