// An IP address as 32-bit words, most significant first: one for IPv4, four for IPv6. Fast enough for a million a second.

/** One word is IPv4, four are IPv6. An IPv4-mapped IPv6 address (RFC 4291 2.5.5.2) is IPv4 here. */
export type Ip = readonly number[]

const DOT = 46
const COLON = 58

/** The number of an IPv4 address in dotted decimal, -1 for any other text (leading zeros, 1.2.3, spaces). */
export function parseV4(text: string): number {
  if (text.length > 15) return -1
  let address = 0
  let octet = -1
  let dots = 0
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === DOT) {
      if (octet < 0 || ++dots > 3) return -1
      address = address * 256 + octet
      octet = -1
      continue
    }
    const digit = code - 48
    if (digit < 0 || digit > 9 || octet === 0) return -1
    octet = octet < 0 ? digit : octet * 10 + digit
    if (octet > 255) return -1
  }
  return dots === 3 && octet >= 0 ? address * 256 + octet : -1
}

function hexDigit(code: number): number {
  if (code >= 48 && code <= 57) return code - 48
  const lower = code | 32
  return lower >= 97 && lower <= 102 ? lower - 87 : -1
}

/**
 * Scratch space for the address being parsed: allocating an array for each would cost more than the parsing. A ninth
 * group is written past the end, which has no effect, and is noticed by the count.
 */
const groups = new Uint16Array(8)

/** Expands `::`. False where it is missing from a short address, or would stand for nothing. */
function fillGap(gap: number, count: number): boolean {
  if (gap < 0) return count === 8
  if (count > 7) return false
  const tail = count - gap
  groups.copyWithin(8 - tail, gap, count)
  groups.fill(0, gap, 8 - tail)
  return true
}

const word = (index: number): number => groups[index]! * 65536 + groups[index + 1]!

/** The four words of an IPv6 address (RFC 4291 2.2), a mapped one too; undefined for any other text, zone ids included. */
export function parseV6(text: string): Ip | undefined {
  const { length } = text
  if (length < 2 || length > 45) return undefined
  let count = 0
  let gap = -1
  let at = 0
  if (text.startsWith('::')) {
    gap = 0
    at = 2
  }
  while (at < length) {
    const start = at
    let group = 0
    for (let digit = 0; at < length; at++) {
      digit = hexDigit(text.charCodeAt(at))
      if (digit < 0) break
      group = group * 16 + digit
    }
    if (at < length && text.charCodeAt(at) === DOT) {
      const v4 = parseV4(text.slice(start))
      if (v4 < 0) return undefined
      groups[count++] = v4 >>> 16
      groups[count++] = v4 & 0xffff
      break
    }
    if (at === start || at - start > 4) return undefined
    groups[count++] = group
    if (at === length) break
    if (text.charCodeAt(at++) !== COLON || at === length) return undefined
    if (text.charCodeAt(at) !== COLON) continue
    if (gap >= 0) return undefined
    gap = count
    at++
  }
  return fillGap(gap, count) ? [word(0), word(2), word(4), word(6)] : undefined
}

/** True for an IPv4-mapped IPv6 address (RFC 4291 2.5.5.2). */
export const isMapped = (ip: Ip): boolean => ip.length === 4 && !ip[0] && !ip[1] && ip[2] === 0xffff

/** The IPv4 address inside a mapped one; any other address as it is. */
export const unmap = (ip: Ip): Ip => (isMapped(ip) ? [ip[3]!] : ip)

/** Reads IPv4 or IPv6 text as strictly as inet_pton(3), no zone id. Undefined when it is not an address. */
export function parseIp(text: string): Ip | undefined {
  const v4 = parseV4(text)
  if (v4 >= 0) return [v4]
  const v6 = parseV6(text)
  return v6 && unmap(v6)
}

/** The given word of a mask of `bits` ones. */
export function maskWord(bits: number, index: number): number {
  const ones = Math.min(Math.max(bits - index * 32, 0), 32)
  return ones && (-1 << (32 - ones)) >>> 0
}

/** The first address of the subnet of `bits` bits that `ip` is in. */
export const networkOf = (ip: Ip, bits: number): Ip =>
  ip.map((value, index) => (value & maskWord(bits, index)) >>> 0)

/** The last address of that subnet. */
export const lastOf = (ip: Ip, bits: number): Ip =>
  ip.map((value, index) => (value | ~maskWord(bits, index)) >>> 0)

/** The canonical text (RFC 5952 for IPv6). */
export function formatIp(ip: Ip): string {
  if (ip.length === 1) return [24, 16, 8, 0].map((shift) => (ip[0]! >>> shift) & 255).join('.')
  const text = ip.flatMap((value) => [(value >>> 16).toString(16), (value & 0xffff).toString(16)]).join(':')
  const runs = text.match(/\b0(:0)+\b/g) ?? []
  const longest = runs.reduce((best, run) => (run.length > best.length ? run : best), '')
  return longest ? text.replace(new RegExp(`(^|:)${longest}(:|$)`), '::') : text
}
