// What a limiter's answer means for the client.

import type { Decision } from '../../../core/decision'
import type { CheckResult, Refusal as Refused } from '../../../core/limiter'
import { blockReason, type CounterKey, NEVER } from '../../../core/limiter/contract'
import { isLasting } from '../../../core/limiter/result'
import type { LimitsConfig } from '../config'
import { UNKNOWN_NETWORKS, USER_NETWORK } from './failed-logins'
import type { Count } from './owner-counts'
import type { Plan } from './plan'
import { blocked, overRate, overSlots, type Refusal, shadowOf } from './refusal'

/** A block to be set, `ms` long. The store itself sets those of rates that it refuses a check by. */
export interface BlockOrder extends CounterKey {
  ms: number
  reason: string
}

/** What the limiter's answer means for the client. */
export interface LimitVerdict {
  refusal?: Refusal
  /** Whom this refusal blocks. */
  blocks: BlockOrder[]
  /** What would have been refused if it were not for `action = shadow`: to be recorded, with code 250. */
  shadows: Decision[]
  /** Of a login: the user is known where he comes from now. */
  known: boolean
  /** It may end sooner than it says. */
  isUnsure?: boolean
}

/** Reads the limiter's answer to a check or a dry run. */
export function judge(config: LimitsConfig, plan: Plan, result: CheckResult): LimitVerdict {
  if (plan.event !== 'auth' && isFine(plan, result)) return { blocks: [], shadows: [], known: false }
  const known = plan.counts.some(
    ({ when }, at) => when === 'known-network check' && (result.states[at]?.used ?? 0) > 0,
  )
  // A message may have tens of thousands of recipient domains, all of them over.
  const countOf = new Map(result.refusals.length ? plan.counts.map((count) => [count.charge, count]) : [])
  const refusals = result.refusals.flatMap((refused) => {
    const count = refused.kind === 'rate' ? countOf.get(refused.charge) : undefined
    return refusalOf(config, plan, refused, count, known) ?? []
  })
  const refusal = heaviest(refusals)
  return {
    ...(refusal && { refusal }),
    blocks: blocksOf(plan, result, known),
    shadows: shadowsOf(plan, result, known),
    known,
    ...((result.isStale || !result.refusals.every(isLasting)) && { isUnsure: true }),
  }
}

/** Nothing was refused, also by no shadow. */
function isFine({ slots }: Plan, { refusals, states, slots: taken }: CheckResult): boolean {
  if (refusals.length > 0 || states.some(({ refused }) => refused)) return false
  return slots.every(({ most }, at) => (taken[at]?.used ?? 0) < most)
}

const isOther = (when: Count['when'], known: boolean): boolean => when === (known ? 'unknown' : 'known')

function refusalOf(
  config: LimitsConfig,
  plan: Plan,
  refused: Refused,
  count: Count | undefined,
  known: boolean,
): Refusal | undefined {
  if (refused.kind === 'block') {
    if (refused.scope === (known ? UNKNOWN_NETWORKS : USER_NETWORK)) return undefined
    return blocked(config, plan.event, refused.block, refused.retryAfter)
  }
  if (refused.kind === 'concurrency') {
    const slot = plan.slots.find(({ lease }) => isSame(lease, refused))
    return slot && overSlots(slot)
  }
  const { charge, state } = refused
  if (!count?.reason || isOther(count.when, known)) return undefined
  const left = Number.isFinite(refused.retryAfter) ? refused.retryAfter : NEVER
  return overRate(plan.event, charge, count.reason, { ...state, retryAfter: left })
}

const isSame = (a: CounterKey, b: CounterKey): boolean => a.scope === b.scope && a.subject === b.subject

function shadowsOf(plan: Plan, { states, slots }: CheckResult, known: boolean): Decision[] {
  const rates = plan.counts.flatMap(({ charge, reason, when }, at) => {
    const state = states[at]
    const over = reason?.limit.action === 'shadow' && state?.refused && !isOther(when, known)
    return over ? [shadowOf(overRate(plan.event, charge, reason, state))] : []
  })
  const connections = plan.slots.flatMap((slot, at) => {
    const over = slot.reason.limit.action === 'shadow' && (slots[at]?.used ?? 0) >= slot.most
    return over ? [shadowOf(overSlots(slot))] : []
  })
  return [...rates, ...connections]
}

/** What is over its limit now, after something was counted without refusing, and whom that blocks. */
export function overNow(plan: Plan, { states }: CheckResult): Pick<LimitVerdict, 'refusal' | 'blocks'> {
  const over = plan.counts.flatMap(({ charge, reason }, at) => {
    const state = states[at]
    const isOver = reason && reason.limit.action !== 'shadow' && state?.refused
    return isOver ? [{ charge, refusal: overRate(plan.event, charge, reason, state) }] : []
  })
  const refusal = heaviest(over.map(({ refusal }) => refusal))
  return { ...(refusal && { refusal }), blocks: over.flatMap(({ charge }) => blockOf(charge, charge.block)) }
}

const blockOf = ({ scope, subject, what }: CounterKey & { what: string }, ms = 0): BlockOrder[] =>
  ms > 0 ? [{ scope, subject, ms, reason: blockReason(what) }] : []

/**
 * Concurrent connections are no rate, and a dry run writes nothing: those who are over are blocked by us. Not who has no
 * room only because others are still trying to log in; and a refusal from memory has set its block before.
 */
function blocksOf(plan: Plan, { op, source, refusals }: CheckResult, known: boolean): BlockOrder[] {
  if (source === 'remembered' || refusals.some(({ kind }) => kind === 'block')) return []
  return refusals.flatMap((refused) => {
    if (refused.kind === 'concurrency') {
      const slot = plan.slots.find(({ lease }) => isSame(lease, refused))
      return slot ? blockOf({ ...slot.lease, what: slot.reason.limit.what }, slot.reason.limit.block) : []
    }
    if (refused.kind !== 'rate' || op !== 'dry-run') return []
    const { charge, state } = refused
    const when = plan.counts.find((count) => count.charge === charge)?.when
    const isOver = state.used + charge.cost > state.limit
    return isOver && !isOther(when, known) ? blockOf(charge, charge.block) : []
  })
}

/** Refused for good beats refused for long, and that refused for a while: what the client has to know. */
const heaviest = (refusals: Refusal[]): Refusal | undefined =>
  refusals.reduce<Refusal | undefined>((a, b) => (a && weight(a) >= weight(b) ? a : b), undefined)

const weight = ({ decision, wait }: Refusal): number => (decision.code >= 500 ? Infinity : wait)
