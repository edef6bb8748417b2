// What a running server holds: the configuration in force and the connections to next hops.

import { plain } from '../../../core/haraka/address'
import { partyOf } from '../../../core/haraka/party-of'
import { classificationOf, mayRelay } from '../../../core/haraka/relaying'
import type { Connection, HarakaAddress } from '../../../core/haraka/types'
import type { Setting } from '../../../core/ini/reload'
import { domainOf } from '../../../core/mail-address'
import type { NextHopClient } from '../../../core/next-hop/client'
import type { Party } from '../../../core/party'
import { registry } from '../../../core/registry'
import type { Callouts } from '../callout'
import type { DomainsConfig } from '../config'
import { judgeRecipient, type RecipientVerdict } from '../policy/recipient'
import { type DeliveryChoice, deliveryChoiceOf } from '../policy/route-choice'
import type { Owns } from '../policy/sender'
import type { DomainLookUp } from '../redis/look-up'
import type { Found } from '../table'
import { stateOf } from './transaction'

/** What the hooks of this plugin share. */
export interface Runtime {
  domains: Setting<DomainsConfig>
  /** Asks about the domains in Redis, if there are any. */
  redis: DomainLookUp
  /** For clients that wait and for the queue, so that both together keep to `connections`. */
  client: NextHopClient
  callouts: Callouts
  /** How long Haraka lets a client be silent, ms. */
  inactivity: number
  /** Octets of a line of the message that Haraka does not cut. */
  lineLength: number
}

/** Filled by `register`, before any hook runs. */
export const runtime = {} as Runtime

/**
 * The relay decision for one recipient. Several hooks ask for it: it is made again only where the configuration, the
 * client's rights or the address have changed.
 */
export function judge(connection: Connection, given: HarakaAddress): RecipientVerdict {
  const recipient = plain(given)
  const classification = classificationOf(connection)
  const relays = mayRelay(connection)
  const { value, generation } = runtime.domains
  const found = foundFor(value, recipient.host)
  const judged = connection.transaction && stateOf(connection.transaction).judged
  const known = judged?.get(recipient)
  if (
    known?.generation === generation &&
    known.found === found &&
    known.classification === classification &&
    known.mayRelay === relays &&
    known.original === recipient.original &&
    known.user === recipient.user &&
    known.host === recipient.host
  )
    return known.verdict
  const verdict = judgeRecipient(value, recipient, partyOf(connection))
  const { original, user, host } = recipient
  judged?.set(recipient, {
    generation,
    found,
    classification,
    mayRelay: relays,
    original,
    user,
    host,
    verdict,
  })
  return verdict
}

/** What a decision about this host depends on beside the configuration: a domain in Redis may change at any time. */
function foundFor({ domains, postmaster }: DomainsConfig, host: string): Found {
  const name = domains.asksRedis ? domainOf(host || (postmaster?.host ?? '')) : undefined
  return name ? domains.find(name) : undefined
}

/** Says whether the logged-in user may write as an address; nobody else has addresses of his own. */
export const ownsOf =
  ({ user }: Party): Owns =>
  (address) =>
    user !== undefined && (registry.ownsSender?.(user, address) ?? false)

/** The way to the next hop of a client that may not relay; the others' mail goes through the queue. */
export const deliveryChoiceFor = (
  connection: Connection,
  domain: DeliveryChoice['domain'] | undefined,
): DeliveryChoice | undefined => (domain && !mayRelay(connection) ? deliveryChoiceOf(domain) : undefined)
