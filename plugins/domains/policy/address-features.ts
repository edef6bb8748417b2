// An address as the policies see it: a small value with finitely many forms. What one server takes for a name the next
// one may obey, so every way to hide a second address in a local part is a feature.
import { domainOf, unquoted } from '../../../core/mail-address'
import type { Mailbox } from '../../../core/party'
import { CANNOT_TELL, type Domain, type DomainTable } from '../table'

/** An address as Haraka parsed it. */
export interface Path extends Mailbox {
  /** As the client wrote it: `<@a.example:user@b.example>`. */
  original: string
}

/** Everything that a policy may know of an address. */
export interface AddressFeatures {
  /**
   * Whose domain it is in. `none`: no domain, as in <postmaster> and <>; `literal`: `[192.0.2.1]`; `cannot tell`: Redis,
   * where it may be, was not heard.
   */
  domain: 'ours' | 'under ours' | 'other' | 'literal' | 'none' | typeof CANNOT_TELL
  local: 'empty' | 'postmaster' | 'other'
  /** `@a,@b:user@c` (RFC 5321 appendix C: SHOULD NOT be used, MAY be refused). */
  sourceRoute: boolean
  /** `@` or a comma inside the local part, quoted or not. */
  innerAddress: boolean
  /** `%` or `!` in the local part. */
  routingCharacters: boolean
  /**
   * IMCEASMTP-user+40victim (Exchange, CVE-1999-0682), IMCEAX400-…, and the quoted `IMCEA user@victim` (KB 264330) hide
   * an address. IMCEAEX- holds a name of Exchange's own directory and comes back in replies to old mail.
   */
  encapsulated: 'no' | 'directory name' | 'address'
}

/** Most local parts hide nothing, and are not looked at any closer. */
const ORDINARY = /^(?!imcea|postmaster$)[a-z0-9._+=-]+$/i
const ordinary = {
  local: 'other',
  sourceRoute: false,
  innerAddress: false,
  routingCharacters: false,
  encapsulated: 'no',
} as const

/** The features of an address, and the domain of ours that it is in, if it is. Never throws. */
export function featuresOf(
  { original, user, host }: Path,
  domains: DomainTable,
): { features: AddressFeatures; domain: Domain | undefined } {
  const name = domainOf(host)
  const found = name ? domains.find(name) : undefined
  const domain = found === CANNOT_TELL ? undefined : found
  const whose =
    found === CANNOT_TELL ? found : domain ? (domain.name === name ? 'ours' : 'under ours') : foreign(host)
  const sourceRoute = /^\s*<?\s*@/.test(original)
  if (ORDINARY.test(user) && !sourceRoute) return { domain, features: { ...ordinary, domain: whose } }
  // A client may write `＠` where the next server reads `@` (Unicode compatibility forms).
  const local = unquoted(user).normalize('NFKC')
  return {
    domain,
    features: {
      domain: whose,
      local: local === '' ? 'empty' : local.toLowerCase() === 'postmaster' ? 'postmaster' : 'other',
      sourceRoute,
      innerAddress: /[@,]/.test(local),
      routingCharacters: /[%!]/.test(local),
      encapsulated: encapsulation(local),
    },
  }
}

const foreign = (host: string): 'none' | 'literal' | 'other' => {
  if (host === '') return 'none'
  return host.startsWith('[') ? 'literal' : 'other'
}

function encapsulation(local: string): AddressFeatures['encapsulated'] {
  if (!/^\s*IMCEA/i.test(local)) return 'no'
  return /^IMCEAEX-/i.test(local) && !/[@%!]|\+40/.test(local) ? 'directory name' : 'address'
}
