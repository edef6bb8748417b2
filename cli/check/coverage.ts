// How much of the internet a set of addresses covers: a union of many entries opens a relay as one entry does.
import type { PrefixTable } from '../../core/net/prefix-table'
import type { Range } from '../../core/net/range'

/** From `first` to before `end`: IPv4 addresses, or /64s of IPv6. */
interface Span {
  first: number
  end: number
}

const ALL_IPV4 = 2 ** 32
/** All unicast addresses of IPv6 are in 2000::/3 (RFC 4291 2.4); in /64s. */
const IPV6_UNICAST = { first: 2 ** 61, end: 2 ** 62 }
/** More than anybody owns: a sixteenth of IPv4, and of IPv6 a /12, which is what a regional registry gets. */
const TOO_MANY_IPV4 = ALL_IPV4 / 16
const TOO_MANY_IPV6 = 2 ** 52

/** Addresses of both families; `ipv4` and `ipv6` are counts of addresses, and of /64s. */
export interface Coverage {
  ipv4: number
  ipv6: number
}

/** What `ranges` cover, each address once, without those that `without` covers. */
export function coverageOf(ranges: Iterable<Range>, without: Iterable<Range> = []): Coverage {
  const taken = spans(without)
  const own = spans(ranges)
  // Not by push(...): a list may have a million entries, and a call takes fewer arguments.
  const beyond = (family: keyof Coverage) =>
    length([...taken[family], ...own[family]]) - length(taken[family])
  return { ipv4: beyond('ipv4'), ipv6: beyond('ipv6') }
}

/** Whether that is more than any organisation can mean: nearly everybody on the internet, or a good part of it. */
export const isEverybody = ({ ipv4, ipv6 }: Coverage): boolean =>
  ipv4 >= TOO_MANY_IPV4 || ipv6 >= TOO_MANY_IPV6

/** The same for all addresses of a table. */
export const holdsEverybody = (table: PrefixTable): boolean => isEverybody(coverageOf(table.ranges()))

/** `6 % of all IPv4 addresses`. */
export function printCoverage({ ipv4, ipv6 }: Coverage): string {
  const parts = [
    ...(ipv4 >= TOO_MANY_IPV4 ? [`${percent(ipv4 / ALL_IPV4)} of all IPv4 addresses`] : []),
    ...(ipv6 >= TOO_MANY_IPV6 ? [`${percent(ipv6 / IPV6_UNICAST.first)} of all IPv6 addresses`] : []),
  ]
  return parts.join(' and ')
}

const percent = (share: number): string => `${share < 0.01 ? '1' : Math.round(share * 100)} %`

function spans(ranges: Iterable<Range>): Record<keyof Coverage, Span[]> {
  const found: Record<keyof Coverage, Span[]> = { ipv4: [], ipv6: [] }
  for (const { family, first, last } of ranges) {
    if (family === 4) found.ipv4.push({ first: first[0]!, end: last[0]! + 1 })
    else found.ipv6.push({ first: net64(first), end: net64(last) + 1 })
  }
  found.ipv6 = found.ipv6
    .map(({ first, end }) => ({
      first: Math.max(first, IPV6_UNICAST.first),
      end: Math.min(end, IPV6_UNICAST.end),
    }))
    .filter(({ first, end }) => first < end)
  return found
}

/** The number of the /64 that an address is in; of 64 bits a float keeps the 53 highest, which is enough. */
const net64 = (ip: readonly number[]): number => ip[0]! * 2 ** 32 + ip[1]!

function length(all: Span[]): number {
  let sum = 0
  let reached = Number.NEGATIVE_INFINITY
  for (const { first, end } of [...all].sort((a, b) => a.first - b.first)) {
    if (end <= reached) continue
    sum += end - Math.max(first, reached)
    reached = end
  }
  return sum
}
