// What one plugin of the bundle tells the others, where both are loaded. None of them imports another.

interface Registry {
  /** domains: the first of our domains. */
  firstDomain?: () => string | undefined
  /** auth: a login's one form, NAME@realm. */
  identity?: (user: string) => string
  /** auth: may this user send as this address (see auth.ini `sender`)? */
  ownsSender?: (user: string, sender: { user: string; host: string }) => boolean
}

export const registry: Registry = {}
