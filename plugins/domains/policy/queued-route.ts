// Where queued mail may go, by the configuration in force at each try.
import type { Decision } from '../../../core/decision'
import { domainOf } from '../../../core/mail-address'
import type { Route } from '../../../core/next-hop/route'
import { clean } from '../../../core/text'
import type { DomainsConfig } from '../config'
import { CANNOT_TELL, type Domain } from '../table'
import type { Memory } from './bounce'
import { cannotTell, ruleOf } from './recipient'

/** Over our next-hop client by `route`; not at all now, for the reason in `held`; or, with neither, to the MX. */
export interface QueuedRoute {
  route?: Route
  held?: Decision
  /** Another plugin may still name a route: `delivery = plugin`. */
  othersMayRoute?: boolean
}

/**
 * The route of queued mail for `host`. A domain with `delivery = plugin` never goes to the MX. Mail of a client that may
 * not relay came for one of our domains: it leaves by no other way, should that be one no longer. `memory`: undefined for
 * this server's own mail.
 */
export function queuedRoute(
  { domains, smarthost }: Pick<DomainsConfig, 'domains' | 'smarthost'>,
  host: string,
  memory: Partial<Pick<Memory, 'mayRelay'>> | undefined,
): QueuedRoute {
  const name = domainOf(host)
  const domain = name === undefined ? undefined : domains.find(name)
  if (domain === CANNOT_TELL) return { held: notTold(name ?? host) }
  if (domain?.route) return { route: domain.route }
  if (domain) return { held: noQueuePlugin(domain), othersMayRoute: true }
  if (memory?.mayRelay === false) return { held: notOurs(name ?? host) }
  return smarthost ? { route: smarthost } : {}
}

/** The decision about mail for a domain with `delivery = plugin` that no plugin takes. */
export const noQueuePlugin = (domain: Domain): Decision => ({
  outcome: 'message.no-queue-plugin',
  code: 451,
  status: '4.3.5',
  text: 'No queue plugin takes mail for this domain',
  rule: ruleOf(domain, 'delivery = plugin'),
})

/** It waits: to the MX may go only what is known to be for others. */
const notTold = (name: string): Decision =>
  cannotTell('message', `Whether ${clean(name, 100)} is one of our domains cannot be told now`)

const notOurs = (name: string): Decision => ({
  outcome: 'message.domain-gone',
  code: 451,
  status: '4.3.5',
  text: `${clean(name, 100)} is no longer one of our domains, and this message may not be relayed`,
  rule: { file: 'domains.ini', section: clean(name, 100), key: 'is not there' },
})
