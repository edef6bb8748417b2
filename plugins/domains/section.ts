// One domain's keys → Domain: a section of domains.ini, or a hash in Redis.
import type { Fields } from '../../core/ini/fields'
import { normalAddress } from '../../core/mail-address'
import type { OwnListener } from '../../core/net/own-listeners'
import { readRoute } from './routes'
import type { Domain } from './table'

/** What the reader of a section needs of the world: where this server listens, its name, and `tls_ca` of [main]. */
export interface SectionWorld {
  ownListener: OwnListener
  hostName: string
  ca: string
}

/** Reads the keys of one domain; `name` is in its one form. Errors go to the list of `fields`. */
export function readDomain(
  fields: Fields,
  { name, file, section }: Pick<Domain, 'name' | 'file' | 'section'>,
  world: SectionWorld,
): Domain {
  const delivery = fields.choice('delivery', 'forward', ['forward', 'queue', 'plugin'])
  const route = readRoute(fields, name, world)
  const domain: Domain = {
    name,
    file,
    section,
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
