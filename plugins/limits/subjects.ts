// Who is counted, under names that never meet, whatever a client calls itself: an address of the network holds no
// "@", a mailbox ends in "@" and a host, and each kind of name has a key space (its `whom`) of its own.
import { domainOf, unquoted, withoutTag } from '../../core/mail-address'
import { memo } from '../../core/memo'
import { formatIp, lastOf, networkOf, parseIp } from '../../core/net/ip'
import type { Range } from '../../core/net/range'
import type { Mailbox, Party } from '../../core/party'

/** The second half of a section: for whom it is counted. */
export type Scope =
  | 'ip'
  | 'network'
  | 'user'
  | 'sender'
  | 'sender domain'
  | 'recipient'
  | 'recipient domain'
  | 'message'
  | 'connection'

/** Someone who is counted. */
export interface CounterOwner {
  scope: Scope
  subject: string
  /** ip and network: the client, and the addresses that are counted together. */
  ip?: string
  range?: Range | undefined
}

const V4_NETWORK = 24
const V6_NETWORK = 48

/** An address and those that are counted with it. What is no address (a Unix socket) stands for itself. */
function subnetOf(ip: string, v4: number, v6: number): { subject: string; range?: Range } {
  const address = parseIp(ip) ?? parseIp(ip.replace(/%.*$/s, ''))
  if (!address) return { subject: ip.toLowerCase() }
  const bits = address.length === 1 ? v4 : v6
  const first = networkOf(address, bits)
  const suffix = bits < address.length * 32 ? `/${bits}` : ''
  return {
    subject: formatIp(first) + suffix,
    range: { family: address.length === 1 ? 4 : 6, first, last: lastOf(address, bits) },
  }
}

// A session asks for its client at every step. One memory for each length of prefix: a new configuration may have another.
const ips = new Map<number, (ip: string) => CounterOwner>()

/** `203.0.113.9`, `2001:db8:1:2::/64`. */
export function ipOf(ip: string, ipv6Prefix: number): CounterOwner {
  let find = ips.get(ipv6Prefix)
  if (!find) {
    find = memo((text) => ({ scope: 'ip', ...subnetOf(text, 32, ipv6Prefix), ip: text }))
    ips.set(ipv6Prefix, find)
  }
  return find(ip)
}

/** `203.0.113.0/24`, `2001:db8:1::/48`. */
export const networkOfClient = memo(
  (ip): CounterOwner => ({ scope: 'network', ...subnetOf(ip, V4_NETWORK, V6_NETWORK), ip }),
)

/** The name under which a host is counted; of what is no domain name (an address literal), as it stands. */
const hostName = memo((host) => domainOf(host) ?? host.toLowerCase())

/** A mailbox in the form in which it is counted: `Anna+news@Example.org` is `anna@example.org`. */
const mailboxName = (local: string, host: string): string =>
  `${withoutTag(unquoted(local)).toLowerCase()}@${host}`

/** Owners with this name, kept: see `ipOf`. */
const named = (scope: Scope) => memo((subject): CounterOwner => ({ scope, subject }))
const senderOf = named('sender')
const senderDomainOf = named('sender domain')
const recipientOf = named('recipient')
const recipientDomainOf = named('recipient domain')

/**
 * MAIL FROM and its domain, where they can be believed. Of the null sender, and where anybody could have written the
 * name, nobody but the client is to blame: its address is counted in the sender's place.
 */
export function sendersOf({ sender, mayRelay, senderSpf, ip }: Party, ipv6Prefix: number): CounterOwner[] {
  const believed = mayRelay || senderSpf === 'pass'
  const host = sender && believed && sender.user !== '' ? domainOf(sender.host) : undefined
  if (sender && host) return [senderOf(mailboxName(sender.user, host)), senderDomainOf(host)]
  const { subject } = ipOf(ip, ipv6Prefix)
  return [senderOf(subject), senderDomainOf(subject)]
}

/** <postmaster> has no domain. */
export function recipientsOf({ user, host }: Mailbox): CounterOwner[] {
  const domain = hostName(host)
  const who = recipientOf(mailboxName(user, domain))
  return domain === '' ? [who] : [who, recipientDomain(domain)]
}

/** The counter of a domain that gets mail. */
export const recipientDomain = (host: string): CounterOwner => recipientDomainOf(hostName(host))

/** The counter of a login. */
export const userOf = memo((user): CounterOwner => ({ scope: 'user', subject: user.toLowerCase() }))
