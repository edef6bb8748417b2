// What a running server holds: the configuration in force and the connections to next hops.

import { mayRelay, relayRule, standingOf } from '../../../core/haraka/relaying'
import type { Address, Connection } from '../../../core/haraka/types'
import type { Setting } from '../../../core/ini/reload'
import type { NextHopClient } from '../../../core/next-hop/client'
import type { DomainsConfig } from '../config'
import { judgeRecipient, type Verdict } from '../policy/recipient'
import { type Way, wayOf } from './transaction'

export interface Live {
  domains: Setting<DomainsConfig>
  /** For clients that wait. */
  client: NextHopClient
  /** For the queue, which has time. */
  queueClient: NextHopClient
  /** How long Haraka lets a client be silent, ms. */
  inactivity: number
}

/** Filled by `register`, before any hook runs. */
export const live = {} as Live

export function judge(connection: Connection, recipient: Address): Verdict {
  const { class: kind, rule } = standingOf(connection)
  return judgeRecipient(live.domains.value, recipient, {
    ...(mayRelay(connection) && { relay: relayRule(connection) }),
    ...(kind === 'never' && rule && { never: rule }),
  })
}

/** The way to the next hop of a client that may not relay; the others' mail goes through the queue. */
export const wayFor = (connection: Connection, domain: Way['domain'] | undefined): Way | undefined =>
  domain && !mayRelay(connection) ? wayOf(domain) : undefined
