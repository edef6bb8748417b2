// What a limiter's answer means, and the reply that tells it (RFC 5321 4.2, RFC 3463).

import type { Decision, Rule } from '../../../core/decision'
import type { CheckResult, Refusal as Refused } from '../../../core/limiter'
import {
  type Block,
  blockReason,
  type CounterKey,
  type CounterState,
  NEVER,
} from '../../../core/limiter/contract'
import { printCount } from '../../../core/limiter/rate'
import { clean } from '../../../core/text'
import { FILE, type Limit, type LimitsConfig } from '../config'
import { UNKNOWN_NETWORKS, USER_NETWORK } from './failed-logins'
import type { Count, Event, Plan, Reason, Slot } from './plan'

/** A refusal by a limit or a block. */
export interface Refusal {
  decision: Decision
  /** ms until another try may pass; 0: nobody can tell. */
  wait: number
  /** Who is over the limit. */
  subject: string
}

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
}

type Reply = Pick<Decision, 'code' | 'status' | 'close'>

const DEFER: Record<Event, Reply> = {
  connection: { code: 421, status: '4.7.0', close: true },
  auth: { code: 454, status: '4.7.0' },
  message: { code: 450, status: '4.7.1' },
  recipient: { code: 450, status: '4.7.1' },
}
const REJECT: Reply = { code: 550, status: '5.7.1' }
const REJECT_CONNECTION: Reply = { code: 554, status: '5.7.1', close: true }
/** The client sends the rest in another transaction (RFC 5321 4.5.3.1.10). */
const TOO_MANY_AT_ONCE: Reply = { code: 452, status: '4.5.3' }
const NO_ROOM: Reply = { code: 452, status: '4.3.1' }
const TOO_LARGE: Reply = { code: 552, status: '5.3.4' }

/** Reads the limiter's answer to a check or a dry run. */
export function judge(config: LimitsConfig, plan: Plan, result: CheckResult): LimitVerdict {
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
  }
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

/** The decision with the time that is left. */
export function withRetryAfter({ decision, wait }: Refusal, left = wait): Decision {
  if (left <= 0) return decision
  return { ...decision, text: `${decision.text}, try again in ${Math.ceil(left / 1000)} s` }
}

const shadowOf = ({ decision }: Refusal): Decision => ({
  outcome: `${decision.outcome}-shadow`,
  code: 250,
  status: '2.0.0',
  text: decision.text,
  rule: decision.rule,
})

function replyOf(event: Event, limit: Limit, wait: number): Reply {
  if (limit.what === 'bytes' && wait === NEVER) return TOO_LARGE
  if (limit.action === 'reject') return event === 'connection' ? REJECT_CONNECTION : REJECT
  if (limit.scope === 'message') return TOO_MANY_AT_ONCE
  return limit.what === 'bytes' ? NO_ROOM : DEFER[event]
}

const limited = (event: Event, { limit, key }: Reason, text: string, wait = 0): Decision => ({
  outcome: `${event}.limited`,
  ...replyOf(event, limit, wait),
  text,
  rule: { file: FILE, section: limit.section, key },
})

function overRate(
  event: Event,
  subject: CounterKey & { what: string },
  reason: Reason,
  state: CounterState,
): Refusal {
  const { retryAfter, limit, window } = state
  const count = subject.what === 'bytes' ? printCount(limit) : limit
  const text = `Too many ${subject.what} ${nameOf(subject, reason.limit)} (${count} in ${window})`
  const wait = Math.max(retryAfter, 0)
  return { decision: limited(event, reason, text, retryAfter), wait, subject: subject.subject }
}

function overSlots({ lease: { scope, subject }, reason, most }: Slot): Refusal {
  const { what } = reason.limit
  const text = `Too many ${what} ${nameOf({ scope, subject }, reason.limit)} (${most} at once)`
  return { decision: limited('connection', reason, text), wait: 0, subject }
}

const PREPOSITIONS: Record<string, string> = { recipient: 'to', 'recipient domain': 'to' }

/** A name that a stranger may have chosen: cleaned of what is no text, and no longer than a reply can hold. */
function nameOf({ scope, subject }: CounterKey, { what }: Pick<Limit, 'what'>): string {
  const user = scope === USER_NETWORK ? subject.slice(0, subject.lastIndexOf(' ')) : subject
  const loginOf =
    what === 'failed logins' && (scope === USER_NETWORK || scope === UNKNOWN_NETWORKS || scope === 'user')
  return `${loginOf ? 'for' : (PREPOSITIONS[scope] ?? 'from')} ${clean(user, 100)}`
}

/** Someone who is blocked: by a limit that says so, or by hand, which is never for good. `left`: ms. */
export function blocked(config: LimitsConfig, event: Event, block: Block, left: number): Refusal {
  const scope = block.scope === UNKNOWN_NETWORKS || block.scope === USER_NETWORK ? 'user' : block.scope
  const limit = [...config.limits.values()].find(
    (each) =>
      (each.scope === scope || block.scope === USER_NETWORK) &&
      each.block > 0 &&
      blockReason(each.what) === block.reason,
  )
  const rule: Rule = limit
    ? { file: FILE, section: limit.section, key: 'block' }
    : { file: 'block', section: block.scope, key: clean(block.subject, 100) }
  const subject =
    block.scope === USER_NETWORK ? block.subject.slice(0, block.subject.lastIndexOf(' ')) : block.subject
  const why = limit ? `too many ${limit.what}` : clean(block.reason, 100)
  const reject = event === 'connection' ? REJECT_CONNECTION : REJECT
  const decision: Decision = {
    outcome: `${event}.blocked`,
    ...(limit?.action === 'reject' ? reject : DEFER[event]),
    text: `${clean(subject, 100)} is blocked${why && ` (${why})`}`,
    rule,
  }
  return { decision, wait: left, subject: block.subject }
}

/** Recipients of one message: `accepted` so far, before the next one. Nothing is kept in a store. */
export function anotherRecipient({ limits }: LimitsConfig, accepted: number): Decision | undefined {
  const limit = limits.get('recipients per message')
  if (limit?.rate.most === undefined || accepted < limit.rate.most) return undefined
  return alone('recipient', limit, `Too many recipients in one message (${limit.rate.most})`)
}

/** Haraka's count of errors on one connection. */
export function tooManyErrors({ limits }: LimitsConfig, errors: number): Decision | undefined {
  const limit = limits.get('errors per connection')
  if (limit?.rate.most === undefined || errors <= limit.rate.most) return undefined
  return alone('connection', limit, `Too many errors on this connection (${limit.rate.most})`)
}

/** Under shadow it has code 250, to be recorded only. */
function alone(event: Event, limit: Limit, text: string): Decision {
  const decision = limited(event, { limit, key: 'limit' }, text)
  return limit.action === 'shadow' ? shadowOf({ decision, wait: 0, subject: '' }) : decision
}
