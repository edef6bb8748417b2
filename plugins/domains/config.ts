// domains.ini → DomainsConfig
import { Fields, fieldsOf } from '../../core/ini/fields'
import { nearest } from '../../core/ini/nearest'
import type { Reading } from '../../core/ini/reading'
import { parseRate, type Rate } from '../../core/limiter/rate'
import { entryOf, linesOf } from '../../core/lines'
import { normalAddress, normalDomain, unquoted } from '../../core/mail-address'
import type { OwnListener } from '../../core/net/own-listeners'
import type { PrefixTable } from '../../core/net/prefix-table'
import type { Route } from '../../core/next-hop/route'
import { ValueError } from '../../core/text'
import type { CalloutSettings } from './policy/callout'
import { hashReader, type ReadHash } from './redis/hash'
import { type KnownDomains, NOTHING_KNOWN } from './redis/known'
import { readAuthorities, readSmarthost } from './routes'
import { readDomain } from './section'
import { DomainTable, type MoreDomains } from './table'

const FILE = 'domains.ini'

/** domains.ini, ready to judge by. */
export interface DomainsConfig {
  domains: DomainTable
  antiSpoof: 'reject' | 'tag' | 'off'
  antiSpoofFrom: 'reject' | 'tag' | 'off'
  spoofAllowed: PrefixTable
  /** Where <postmaster> without a domain goes; undefined where no domain is ours. */
  postmaster?: { user: string; host: string }
  bounce: 'verified' | 'send' | 'drop'
  smarthost?: Route
  callouts: CalloutSettings
  /** Reads a domain's hash in Redis as this configuration does. */
  readHash: ReadHash
}

/** What a reader needs of the world: where this server listens, and its name. */
export interface World {
  ownListener: OwnListener
  hostName: string
  /** Whether redis.ini lets Redis be used, and what is known of the domains there; without it nothing is. */
  redis?: { enabled: boolean; known?: Pick<KnownDomains, 'readBy'> }
}

/** Reads domains.ini and, with `host_list`, Haraka's host_list; errors go to `reading.errors`. */
export function readDomains(reading: Reading, world: World): DomainsConfig {
  const { sections, errors } = reading
  const main = fieldsOf(FILE, sections, 'main', errors)
  const ca = readAuthorities(main, reading.open)
  const smarthost = readSmarthost(main, world.ownListener, ca)
  const postmasterText = main.text('postmaster')
  const hostList = main.flag('host_list', false)
  const readHash = hashReader({ ...world, ca })
  const config: DomainsConfig = {
    domains: new DomainTable(readRedis(main, world.redis, readHash)),
    readHash,
    antiSpoof: main.choice('anti_spoof', 'reject', ['reject', 'tag', 'off']),
    antiSpoofFrom: main.choice('anti_spoof_from', 'tag', ['reject', 'tag', 'off']),
    spoofAllowed: main.subnets('spoof_allowed'),
    bounce: main.choice('bounce', 'verified', ['verified', 'send', 'drop']),
    callouts: readCallouts(main),
    ...(smarthost && { smarthost }),
  }
  main.done()
  for (const section of sections) {
    if (section.name === 'main') continue
    const fields = new Fields(FILE, section, errors)
    const name = readName(fields)
    if (name === undefined) continue
    const domain = readDomain(fields, { name, file: FILE, section: section.name }, { ...world, ca })
    if (!config.domains.add(domain)) fields.wrong('', 'the domain is there already')
  }
  if (hostList) readHostList(reading, config.domains)
  const postmaster = readPostmaster(main, postmasterText, config.domains)
  return { ...config, ...(postmaster && { postmaster }) }
}

/** `redis = true`: the domains in Redis, as far as they are known. */
function readRedis(main: Fields, redis: World['redis'], read: ReadHash): MoreDomains | undefined {
  if (!main.flag('redis', false)) return undefined
  const { enabled, known } = redis ?? { enabled: true }
  if (!enabled) main.wrong('redis', 'needs enabled = true in redis.ini')
  return known?.readBy(read) ?? NOTHING_KNOWN
}

function readCallouts(main: Fields): CalloutSettings {
  return {
    questions: main.read('questions', parseRate('20/1s'), parseQuestions),
    cacheKnown: main.duration('cache_known', 604_800_000),
    cacheUnknown: main.duration('cache_unknown', 3_600_000),
  }
}

function parseQuestions(text: string): Rate {
  try {
    const rate = parseRate(text)
    if (rate.windows.length > 0) return rate
  } catch {
    // Said below, with what is allowed.
  }
  throw new ValueError('is not a rate; write 20/1s', text)
}

/** The name of a domain's section in its one form; undefined where an error was reported. */
function readName(fields: Fields): string | undefined {
  try {
    const name = normalDomain(fields.name)
    if (name !== 'main') return name
    fields.wrong('', 'is not a domain; did you mean [main]?')
  } catch (error) {
    const near = nearest(fields.name, ['main'])
    fields.wrong('', near ? `is not a domain; did you mean [${near}]?` : (error as ValueError).problem)
  }
  return undefined
}

/** Haraka's config/host_list, a domain a line: domains whose mail other queue plugins take. */
function readHostList({ open, errors }: Reading, domains: DomainTable): void {
  const wrong = (key: string, text: string) => errors.push({ file: 'host_list', section: '', key, text })
  let text: Buffer | string = ''
  try {
    text = open('config/host_list')
  } catch (error) {
    wrong('', (error as Error).message)
  }
  let number = 0
  for (const raw of linesOf(text)) {
    const line = entryOf(raw)
    number++
    if (line === '') continue
    try {
      domains.add({
        name: normalDomain(line),
        file: 'host_list',
        section: line,
        subdomains: false,
        delivery: 'plugin',
        verify: 'none',
        routingCharacters: 'reject',
      })
    } catch (error) {
      wrong(`line ${number}`, (error as Error).message)
    }
  }
}

function readPostmaster(
  main: Fields,
  text: string,
  domains: DomainTable,
): { user: string; host: string } | undefined {
  const { first } = domains
  if (text === '') return first && { user: 'postmaster', host: first.name }
  try {
    const address = normalAddress(text)
    const host = address.slice(address.lastIndexOf('@') + 1)
    // Of a domain in Redis nothing is known yet.
    if (domains.find(host) === undefined) main.wrong('postmaster', 'is in none of our domains')
    return { user: unquoted(text.slice(0, text.lastIndexOf('@'))), host }
  } catch (error) {
    main.wrong('postmaster', (error as ValueError).problem)
    return undefined
  }
}
