// The names of a user who logs in.
import { domainOf } from '../../core/mail-address'

/**
 * The one form of a login name, `NAME@realm` in lower case, with the domain in ASCII. Without a realm a name without @
 * stays as it is; a domain that is none stays as it is written.
 */
export function identity(name: string, realm: string | undefined): string {
  const lower = name.toLowerCase()
  const at = lower.lastIndexOf('@')
  if (at < 0) return realm ? `${lower}@${realm}` : lower
  return `${lower.slice(0, at)}@${domainOf(lower.slice(at + 1)) ?? lower.slice(at + 1)}`
}

/** The names under which a login may stand in auth.ini: NAME@realm, and NAME alone where it belongs to the realm. */
export function namesOf(name: string, realm: string | undefined): string[] {
  const own = identity(name, realm)
  const at = own.lastIndexOf('@')
  const short = own.slice(0, at)
  return at > 0 && own.slice(at + 1) === realm && !short.includes('@') ? [own, short] : [own]
}
