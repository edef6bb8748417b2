// The exceptions of a section: other limits for some of those that it counts. The most specific one decides.

import type { Rate } from '../../core/limiter/rate'
import { normalAddress, normalDomain } from '../../core/mail-address'
import type { Ip } from '../../core/net/ip'
import { PrefixTableBuilder } from '../../core/net/prefix-table'
import type { Range } from '../../core/net/range'
import { parsePrefix } from '../../core/net/range'
import type { CounterOwner, Scope } from './subjects'

/** One line of a section that gives somebody another limit. */
export interface Exception {
  /** As it stands in the file. */
  key: string
  rate: Rate
}

/** The limit that holds for someone, the key of the section that says so, and the name it is counted under. */
export interface Ruling extends Exception {
  subject: string
}

/** Finds the exception that holds for someone. */
export type Exceptions = (who: CounterOwner) => Ruling | undefined

const NONE: Exceptions = () => undefined

/** What is wrong with a key, as an error of it. */
export type Wrong = (key: string, text: string) => void

const LONGEST_DOMAIN = 253 // octets (RFC 1035 2.3.4); what a client calls a domain may be longer

const isAtMost = (a: Ip, b: Ip): boolean => {
  const word = a.findIndex((value, index) => value !== b[index])
  return word < 0 || a[word]! < b[word]!
}

const covers = (outer: Range, inner: Range): boolean =>
  outer.family === inner.family && isAtMost(outer.first, inner.first) && isAtMost(inner.last, outer.last)

/**
 * For ip and network. An exception smaller than what is counted together (one address of a network) takes its
 * addresses out of that count, or two limits would share a counter: they are counted by themselves.
 */
export function addressExceptions(
  written: Exception[],
  ipOf: (ip: string) => CounterOwner,
  wrong: Wrong,
): Exceptions {
  const parsed: { exception: Exception; range: Range }[] = []
  const builder = new PrefixTableBuilder((one, two) =>
    wrong(parsed[two]!.exception.key, `has the same addresses as ${parsed[one]!.exception.key}`),
  )
  for (const exception of written) {
    const range = attempt(exception.key, parsePrefix, wrong)
    if (range) builder.add(range, parsed.push({ exception, range }) - 1)
  }
  if (!parsed.length) return NONE
  const table = builder.buildSync()
  return ({ ip, range, subject }) => {
    const found = parsed[table.lookup(ip)]
    if (!found || !range) return undefined
    if (covers(found.range, range)) return { ...found.exception, subject }
    const client = ipOf(ip ?? '')
    const own = client.range && covers(found.range, client.range)
    return { ...found.exception, subject: own ? client.subject : found.exception.key.toLowerCase() }
  }
}

/** For users, addresses and domains: the address decides, then the domain, then the longest `.suffix`. */
export function nameExceptions(scope: Scope, written: Exception[], wrong: Wrong): Exceptions {
  const names = new Map<string, Exception>()
  const domains = new Map<string, Exception>()
  const add = (map: Map<string, Exception>, name: string, exception: Exception) => {
    const before = map.get(name)
    if (before) wrong(exception.key, `says the same as ${before.key}`)
    map.set(name, exception)
  }
  for (const exception of written) {
    const form = attempt(exception.key, (key) => readName(scope, key), wrong)
    if (form?.name !== undefined) add(names, form.name, exception)
    if (form?.domain !== undefined) add(domains, form.domain, exception)
  }
  if (!names.size && !domains.size) return NONE
  return ({ subject }) => {
    const at = subject.lastIndexOf('@')
    const isDomain = scope.endsWith('domain')
    const exact = isDomain ? undefined : names.get(subject)
    const found =
      exact ??
      (isDomain || at >= 0 ? closestDomain(domains, subject.slice(isDomain ? 0 : at + 1)) : undefined)
    return found && { ...found, subject }
  }
}

function closestDomain(domains: Map<string, Exception>, domain: string): Exception | undefined {
  if (domains.size === 0 || domain.length > LONGEST_DOMAIN || domain.startsWith('.')) return undefined
  let found = domains.get(domain)
  for (let dot = domain.indexOf('.'); !found && dot >= 0; dot = domain.indexOf('.', dot + 1))
    found = domains.get(domain.slice(dot))
  return found
}

/** What a key stands for. Throws an Error that says why it stands for nothing. */
function readName(scope: Scope, key: string): { name?: string; domain?: string } {
  const isDomain = scope.endsWith('domain')
  if (key.includes('@')) {
    if (isDomain) throw new Error('is an address, allowed are a domain and .subdomain')
    return { name: normalAddress(key) }
  }
  if (key.startsWith('.')) return { domain: `.${normalDomain(key.slice(1))}` }
  if (scope !== 'user') {
    // A word without a dot is more likely a key spelled wrong.
    if (key.includes('.')) return { domain: normalDomain(key) }
    throw new Error(`is not ${isDomain ? 'a domain' : 'an address, a domain'} or .subdomain`)
  }
  if (/[/:]|^\d[\d.]*\.\d+$/.test(key)) throw new Error('is not a user, a domain or .subdomain')
  // A login without @ has no domain: anna, john.smith. The second could be a domain, too.
  const name = key.toLowerCase()
  return /^[^.]+$/.test(key) ? { name } : { name, domain: normalDomain(key) }
}

function attempt<T>(key: string, parse: (key: string) => T, wrong: Wrong): T | undefined {
  try {
    return parse(key)
  } catch (error) {
    wrong(key, (error as Error).message)
    return undefined
  }
}
