// What one plugin of the bundle tells the others, where it is loaded. None of them imports another.
import type { Connection } from './haraka/types'
import type { ConfigError } from './ini/parse'
import type { Mailbox } from './party'
import type { Classification, Client } from './relay-right'

/** What came of a password: only a wrong one is a failed login. `cannot tell`: it could not be checked. */
export type LoginOutcome = 'right' | 'wrong' | 'cannot tell'

interface Registry {
  /** Each plugin: what it has in force, for the line at the start, as `12 domains`. */
  inForce: Partial<Record<'acl' | 'auth' | 'domains' | 'limits' | 'overload', () => string>>
  /** acl: what acl.ini says of a client, and the generation of the configuration that says it. */
  acl?: { classify(client: Client): Classification; generation(): number }
  /** domains: the first of our domains. */
  firstDomain?: () => string | undefined
  /** auth: a login's one form, NAME@realm. */
  identity?: (user: string) => string
  /** auth: errors of [users] that the first of our domains makes; domains asks when it knows one, and when it changes. */
  usersGivenTwice?: () => ConfigError[]
  /** auth: may this user send as this address (auth.ini `sender`)? */
  ownsSender?: (user: string, sender: Mailbox) => boolean
  /** auth: false where the login of this connection was taken out of auth.ini [users] since. */
  loginHolds?: (connection: Connection) => boolean
  /** limits: hears what came of each login that auth checks. */
  loginOutcome?: (connection: Connection, outcome: LoginOutcome) => void
  /** overload: what is over its mark now, with the figures; '' where nothing is. */
  overloads?: () => string
  /** limits: whether the user who is logging in has logged in from this network before. */
  isKnownNetwork?: (connection: Connection) => boolean
}

/** Filled by each plugin's `register`. Without acl every client is nobody in particular. */
export const registry: Registry = { inForce: {} }
