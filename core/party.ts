// Who is at the other end of a connection, as far as it is known by now: what every policy asks about.
import type { Rule } from './decision'
import type { Classification } from './relay-right'

/** An envelope address: the local part as the client wrote it, quotes included, and its host, '' for <postmaster>. */
export interface Mailbox {
  user: string
  host: string
}

/** What SPF says of the domain in MAIL FROM. `cannot tell`: DNS did not answer (TempError, RFC 7208 2.6.6). */
export type SpfAnswer = 'pass' | 'no' | 'cannot tell'

/** Who is at the other end, at one moment. Made by core/haraka/party-of.ts only. */
export interface Party {
  /** Canonical text. */
  ip: string
  /** TLS is on. */
  tls: boolean
  /** What acl.ini says of the client. */
  classification: Classification
  /** May send mail to domains that are not ours. */
  mayRelay: boolean
  /** The line that gives that right; undefined without the right. */
  relayRule?: Rule
  /** The login in its one form (lower case, NAME@realm), of a client in [never], too. */
  user?: string
  /** MAIL FROM of the open transaction. */
  sender?: Mailbox
  senderSpf: SpfAnswer
}
