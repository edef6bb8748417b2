// What one plugin of the bundle tells the others, where it is loaded. None of them imports another.
import type { Mailbox } from './party'
import type { Classification, Client } from './relay-right'

interface Registry {
  /** acl: what acl.ini says of a client, and the generation of the configuration that says it. */
  acl?: { classify(client: Client): Classification; generation(): number }
  /** domains: the first of our domains. */
  firstDomain?: () => string | undefined
  /** auth: a login's one form, NAME@realm. */
  identity?: (user: string) => string
  /** auth: may this user send as this address (auth.ini `sender`)? */
  ownsSender?: (user: string, sender: Mailbox) => boolean
}

/** Filled by each plugin's `register`. Without acl every client is nobody in particular. */
export const registry: Registry = {}
