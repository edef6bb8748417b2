// domains.ini → DomainsConfig
import { Fields, fieldsOf } from '../../core/ini/fields'
import { nearest } from '../../core/ini/nearest'
import type { Reading } from '../../core/ini/reading'
import { entryOf, linesOf } from '../../core/lines'
import { normalAddress, normalDomain, unquoted } from '../../core/mail-address'
import type { OwnListener } from '../../core/net/own-listeners'
import type { PrefixTable } from '../../core/net/prefix-table'
import type { Route } from '../../core/next-hop/route'
import { ValueError } from '../../core/text'
import { readAuthorities, readRoute, readSmarthost } from './routes'
import { type Domain, DomainTable } from './table'

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
}

/** What a reader needs of the world: where this server listens, and its name. */
export interface World {
  ownListener: OwnListener
  hostName: string
}

/** Reads domains.ini and, with `host_list`, Haraka's host_list; errors go to `reading.errors`. */
export function readDomains(reading: Reading, world: World): DomainsConfig {
  const { sections, errors } = reading
  const main = fieldsOf(FILE, sections, 'main', errors)
  const ca = readAuthorities(main, reading.open)
  const smarthost = readSmarthost(main, world.ownListener, ca)
  const postmasterText = main.text('postmaster')
  const hostList = main.flag('host_list', false)
  const config: DomainsConfig = {
    domains: new DomainTable(),
    antiSpoof: main.choice('anti_spoof', 'reject', ['reject', 'tag', 'off']),
    antiSpoofFrom: main.choice('anti_spoof_from', 'tag', ['reject', 'tag', 'off']),
    spoofAllowed: main.subnets('spoof_allowed'),
    bounce: main.choice('bounce', 'verified', ['verified', 'send', 'drop']),
    ...(smarthost && { smarthost }),
  }
  readCallouts(main)
  main.done()
  for (const section of sections) {
    if (section.name === 'main') continue
    const fields = new Fields(FILE, section, errors)
    const domain = readDomain(fields, { ...world, ca })
    if (domain && !config.domains.add(domain)) fields.wrong('', 'the domain is there already')
  }
  if (hostList) readHostList(reading, config.domains)
  const postmaster = readPostmaster(main, postmasterText, config.domains)
  return { ...config, ...(postmaster && { postmaster }) }
}

/** Keys of the callout and of domains in Redis: read, so that a file for a later version is good here, as far as it can be. */
function readCallouts(main: Fields): void {
  if (main.flag('redis', false)) main.wrong('redis', 'this version takes no domains from Redis; write false')
  main.read('questions', '20/1s', (text) => {
    if (/^[1-9]\d{0,5}\/[1-9]\d{0,5}(s|m|h)$/.test(text)) return text
    throw new ValueError('is not a rate; write 20/1s', text)
  })
  main.duration('cache_known', 604_800_000)
  main.duration('cache_unknown', 3_600_000)
}

function readDomain(fields: Fields, world: World & { ca: string }): Domain | undefined {
  let name: string
  try {
    name = normalDomain(fields.name)
  } catch (error) {
    const near = nearest(fields.name, ['main'])
    fields.wrong('', near ? `is not a domain; did you mean [${near}]?` : (error as ValueError).problem)
    return undefined
  }
  if (name === 'main') {
    fields.wrong('', 'is not a domain; did you mean [main]?')
    return undefined
  }
  const delivery = fields.choice('delivery', 'forward', ['forward', 'queue', 'plugin'])
  const route = readRoute(fields, name, world)
  const domain: Domain = {
    name,
    file: FILE,
    section: fields.name,
    subdomains: fields.flag('subdomains', false),
    delivery,
    verify: fields.choice('verify', 'callout', ['callout', 'none']),
    routingCharacters: fields.choice('routing_characters', 'reject', ['reject', 'allow']),
    ...(route && { route }),
  }
  const recipients = fields.list('recipients', normalAddress)
  if (fields.has('recipients')) domain.recipients = new Set(recipients)
  if (fields.isEmpty('recipients')) fields.wrong('recipients', 'names nobody; without the line all are taken')
  const isHere = (address: string) =>
    address.endsWith(`@${name}`) || (domain.subdomains && address.endsWith(`.${name}`))
  const elsewhere = recipients.find((address) => !isHere(address))
  if (elsewhere)
    fields.wrong('recipients', `number ${recipients.indexOf(elsewhere) + 1} is not in this domain`)
  if (!route && delivery !== 'plugin' && !fields.has('next_hop'))
    fields.wrong('next_hop', 'is missing; write smtp://HOST, lmtp:unix:PATH, … or delivery = plugin')
  if (route && delivery === 'plugin') fields.wrong('next_hop', 'has no meaning with delivery = plugin')
  fields.done()
  return domain
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
    if (!domains.find(host)) main.wrong('postmaster', 'is in none of our domains')
    return { user: unquoted(text.slice(0, text.lastIndexOf('@'))), host }
  } catch (error) {
    main.wrong('postmaster', (error as ValueError).problem)
    return undefined
  }
}
