// What a running server holds: the configuration in force and the connections to next hops.

import { classificationOf, mayRelay, relayRule } from '../../../core/haraka/relaying'
import type { Address, Connection } from '../../../core/haraka/types'
import type { Setting } from '../../../core/ini/reload'
import type { NextHopClient } from '../../../core/next-hop/client'
import type { DomainsConfig } from '../config'
import { judgeRecipient, type Verdict } from '../policy/recipient'
import { type DeliveryChoice, deliveryChoiceOf } from './transaction'

export interface Runtime {
  domains: Setting<DomainsConfig>
  /** For clients that wait. */
  client: NextHopClient
  /** For the queue, which has time. */
  queueClient: NextHopClient
  /** How long Haraka lets a client be silent, ms. */
  inactivity: number
}

/** Filled by `register`, before any hook runs. */
export const runtime = {} as Runtime

export function judge(connection: Connection, recipient: Address): Verdict {
  const { class: kind, rule } = classificationOf(connection)
  return judgeRecipient(runtime.domains.value, recipient, {
    ...(mayRelay(connection) && { relay: relayRule(connection) }),
    ...(kind === 'never' && rule && { never: rule }),
  })
}

/** The way to the next hop of a client that may not relay; the others' mail goes through the queue. */
export const deliveryChoiceFor = (
  connection: Connection,
  domain: DeliveryChoice['domain'] | undefined,
): DeliveryChoice | undefined => (domain && !mayRelay(connection) ? deliveryChoiceOf(domain) : undefined)
