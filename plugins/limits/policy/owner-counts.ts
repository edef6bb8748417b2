// What limits.ini says of one owner: the count of 1 for each thing, kept as long as the configuration is in force.
import { type Charge, newCharge } from '../../../core/limiter/contract'
import type { Rate } from '../../../core/limiter/rate'
import type { Party } from '../../../core/party'
import type { Limit, LimitsConfig, What } from '../config'
import type { Ruling } from '../exceptions'
import type { CounterOwner } from '../subjects'

/** Why something is counted: the section, and the key of it that decided. */
export interface Reason {
  limit: Limit
  key: string
}

/** One charge of a step. Without a reason only a block of its subject can refuse. */
export interface Count {
  charge: Charge
  reason?: Reason
  /**
   * Of a login: whether it counts only on a known network of the user, or only on unknown ones; the check tells which of
   * the two this is.
   */
  when?: 'known' | 'unknown' | 'known-network check'
}

/** So much a worker may hold in advance of one counter; of the rest nothing, as each of them must be known everywhere. */
const ADVANCE: Partial<Record<What, number>> = {
  connections: 64,
  messages: 64,
  recipients: 64,
  bytes: 4 * 2 ** 20,
}

const EXEMPT: What[] = ['connections', 'concurrent connections', 'refused recipients']

/** What limits.ini says of someone; undefined where it counts nothing. */
export function ruled(
  config: LimitsConfig,
  party: Party,
  what: What,
  who: CounterOwner,
): (Reason & Ruling) | undefined {
  if (isExempt(config, party, what)) return undefined
  const limit = config.perScope[who.scope]?.get(what)
  if (!limit) return undefined
  const { key, rate, subject } = limit.exceptions(who) ?? {
    key: 'limit',
    rate: limit.rate,
    subject: who.subject,
  }
  return { limit, key, rate, subject }
}

/** Clients of [relay] are exempt from some limits. */
export const isExempt = ({ exemptRelay }: LimitsConfig, { classification }: Party, what: What): boolean =>
  exemptRelay && classification.class === 'relay' && EXEMPT.includes(what)

/** A charge of 1, under no section. */
export const chargeOf = (who: { scope: string; subject: string }, what: string, limit: Rate): Charge =>
  newCharge(who, what, limit, 1)

/** A charge by a section: under its action and its block. `rate`: its own, or that of an exception. */
export function chargeUnder(
  { what, action, block }: Limit,
  rate: Rate,
  who: { scope: string; subject: string },
): Charge {
  const charge = chargeOf(who, what, rate)
  if (action === 'shadow') charge.shadow = true
  if (block > 0) charge.block = block
  charge.advance = ADVANCE[what]
  if (what === 'recipients' || what === 'bytes') charge.refundable = true
  if (what === 'refused recipients') charge.glance = true
  return charge
}

/** What one owner is charged for one thing: the count of 1, undefined where it is not limited; its key is its own. */
interface OwnerCount {
  count: Count | undefined
  isOwn: boolean
}

type OwnerCounts = Map<What, OwnerCount>

/** Owners whose counts are kept; when one more comes, all are forgotten. */
const CAPACITY = 8192
/** The steps of a session, and clients that come again, ask for the same owners: subjects.ts keeps those. */
const kept = new WeakMap<LimitsConfig, Map<CounterOwner, OwnerCounts>>()

/** The count of one owner for one thing, made once. */
export function ownerCount(config: LimitsConfig, party: Party, what: What, who: CounterOwner): OwnerCount {
  let owners = kept.get(config)
  if (!owners || owners.size > CAPACITY) {
    owners = new Map()
    kept.set(config, owners)
  }
  let counts = owners.get(who)
  if (!counts) {
    counts = new Map()
    owners.set(who, counts)
  }
  const before = counts.get(what)
  if (before) return before
  const rule = ruled(config, party, what, who)
  const made: OwnerCount = { count: rule && countBy(who, rule), isOwn: rule?.subject === who.subject }
  counts.set(what, made)
  return made
}

const countBy = ({ scope }: CounterOwner, { limit, key, rate, subject }: Reason & Ruling): Count => ({
  charge: chargeUnder(limit, rate, { scope, subject }),
  reason: { limit, key },
})
