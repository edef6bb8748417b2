// Parses an operator's text for a set of addresses (an address, CIDR, address/netmask or a range) into its first and last.
import { clean } from '../text'
import {
  formatIp,
  type Ip,
  isMapped,
  lastOf,
  maskWord,
  networkOf,
  parseIp,
  parseV4,
  parseV6,
  unmap,
} from './ip'

/** All addresses from `first` to `last`, both included, both of one family. */
export interface Range {
  family: 4 | 6
  first: Ip
  last: Ip
}

/** The forms of a set of addresses, for errors. */
export const ALLOWED =
  'allowed are an address, CIDR (192.0.2.0/24), address/netmask (192.0.2.0/255.255.255.0) and a range (192.0.2.1-192.0.2.9)'

const range = (first: Ip, last: Ip): Range => ({ family: first.length === 1 ? 4 : 6, first, last })

function isBefore(a: Ip, b: Ip): boolean {
  let word = 0
  while (word < a.length - 1 && a[word] === b[word]) word++
  return a[word]! < b[word]!
}

/** Why a text is no address, for the frequent reasons. */
function unreadable(text: string): string {
  if (text.includes('%')) return 'zone ids are not possible here'
  if (/\s/.test(text)) return 'spaces are not possible here'
  if (/(^|[.:])0\d+(\.|$)/.test(text)) return 'leading zeros are not possible (octal or decimal?)'
  return text ? `${text} is not an address` : 'an address is missing'
}

/** A prefix length or, for IPv4, a dotted netmask as the number of its one bits. */
function prefixLength(text: string, width: number): number {
  if (/^(0|[1-9]\d*)$/.test(text)) {
    if (Number(text) <= width) return Number(text)
    throw new Error(`prefix longer than ${width}, allowed is /0 to /${width}`)
  }
  const netmask = width === 32 ? parseV4(text) : -1
  const form = width === 32 ? '/0 to /32 or a netmask like /255.255.255.0' : `/0 to /${width}`
  if (netmask < 0) throw new Error(`/${text} is not a prefix length, allowed is ${form}`)
  const bits = Math.clz32(~netmask)
  if (maskWord(bits, 0) === netmask) return bits
  throw new Error('the netmask has holes, allowed are ones followed by zeros, like 255.255.255.0')
}

/** Below /96 a mapped prefix holds more than IPv4, so it stays IPv6 and never matches an IPv4 client. */
function parseSubnet(address: string, suffix: string): Range {
  const raw = parseV6(address)
  const ip = raw ? unmap(raw) : parseIp(address)
  if (!ip) throw new Error(`${unreadable(address)}, ${ALLOWED}`)
  if (!raw || !isMapped(raw)) return subnet(ip, prefixLength(suffix, ip.length * 32))
  if (parseV4(suffix) >= 0) return subnet(ip, prefixLength(suffix, 32))
  const bits = prefixLength(suffix, 128)
  return bits < 96 ? subnet(raw, bits) : subnet(ip, bits - 96)
}

function subnet(ip: Ip, bits: number): Range {
  const first = networkOf(ip, bits)
  if (!isBefore(first, ip)) return range(first, lastOf(first, bits))
  throw new Error(`host bits are set, did you mean ${formatIp(first)}/${bits} or ${formatIp(ip)}?`)
}

function parseRange(from: string, to: string): Range {
  const first = parseIp(from)
  const last = parseIp(to)
  if (!first || !last) throw new Error(`${unreadable(first ? to : from)}, ${ALLOWED}`)
  if (first.length !== last.length) throw new Error('the range mixes IPv4 and IPv6, allowed is one of them')
  if (isBefore(last, first)) throw new Error(`the range runs backwards, did you mean ${to}-${from}?`)
  return range(first, last)
}

function parse(text: string): Range {
  const slash = text.indexOf('/')
  const dash = text.indexOf('-')
  if (dash >= 0) return parseRange(text.slice(0, dash), text.slice(dash + 1))
  if (slash >= 0) return parseSubnet(text.slice(0, slash), text.slice(slash + 1))
  const ip = parseIp(text)
  if (!ip) throw new Error(`${unreadable(text)}, ${ALLOWED}`)
  return range(ip, ip)
}

/**
 * Reads one entry: an address, CIDR, address/netmask or a range a-b, IPv4 or IPv6; IPv4-mapped IPv6 is IPv4.
 * Throws an Error `ENTRY: what is wrong, what is allowed`.
 */
export function parseEntry(text: string): Range {
  try {
    return parse(text)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new Error(`${clean(text, 60) || 'empty entry'}: ${clean(reason)}`)
  }
}

/** parseEntry for a key that its config error names anyway: the message comes without the entry. Throws Error. */
export function parsePrefix(text: string): Range {
  try {
    return parseEntry(text)
  } catch (error) {
    const { message } = error as Error
    throw new Error(message.startsWith(`${text}: `) ? message.slice(text.length + 2) : message)
  }
}
