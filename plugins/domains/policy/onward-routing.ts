// Local parts that ask somebody further on to route: what one server takes as a name, the next one may obey.
import { unquoted } from '../../../core/mail-address'

/** How an address asks for onward routing, in words for the reply; undefined where it does not. */
export type Wrapping =
  | 'a source route'
  | 'an encapsulated address'
  | 'routing characters'
  | 'a domain literal'

export interface Envelope {
  /** The path as the client wrote it: `<@a.example:user@b.example>`. */
  original: string
  user: string
  host: string
}

/** `@a,@b:user@c` (RFC 5321 appendix C: SHOULD NOT be used, MAY be refused). */
const isSourceRoute = ({ original }: Envelope): boolean => /^\s*<?\s*@/.test(original)

/**
 * IMCEASMTP-user+40victim (Exchange, CVE-1999-0682), IMCEAX400-…, and the quoted `IMCEA user@victim` (KB 264330).
 * IMCEAEX- holds a name of Exchange's own directory and comes back in replies to old mail.
 */
const isEncapsulated = (local: string, allowDirectoryNames: boolean): boolean =>
  /^\s*IMCEA/i.test(local) && !(allowDirectoryNames && /^IMCEAEX-/i.test(local) && !/[@%!]|\+40/.test(local))

/**
 * `trusted`: the client may relay, so `%` and the like are its own affair, but a source route is not carried on, and an
 * address hidden in one of our domains is opened by nobody. `allow`: this domain takes `%` and `!` (an X.400 gateway).
 */
export function wrapping(
  address: Envelope,
  { trusted, ours, allow }: { trusted: boolean; ours: boolean; allow: boolean },
): Wrapping | undefined {
  const local = unquoted(address.user).normalize('NFKC')
  if (isSourceRoute(address)) return 'a source route'
  if ((ours || !trusted) && isEncapsulated(local, allow)) return 'an encapsulated address'
  if (trusted) return undefined
  if (address.host.startsWith('[')) return 'a domain literal'
  if (/[@,]/.test(local) || (!allow && /[%!]/.test(local))) return 'routing characters'
  return undefined
}
