// How a refusal by a limit or a block is replied to (RFC 5321 4.2, RFC 3463).
import type { Decision, Rule } from '../../../core/decision'
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
import type { Reason } from './owner-counts'
import type { Event, Slot } from './plan'

/** A refusal by a limit or a block. */
export interface Refusal {
  decision: Decision
  /** ms until another try may pass; 0: nobody can tell. */
  wait: number
  /** Who is over the limit, as in the Redis key. */
  scope: string
  subject: string
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

/** The decision with the time that is left. */
export function withRetryAfter({ decision, wait }: Refusal, left = wait): Decision {
  return { ...decision, text: withTime(decision.text, left) }
}

/** The text with the time (ms) that is left, if any is. */
export const withTime = (text: string, left: number): string =>
  left > 0 ? `${text}, try again in ${Math.ceil(left / 1000)} s` : text

/** What `action = shadow` would have refused: recorded, with code 250. */
export const shadowOf = ({ decision }: Refusal): Decision => ({
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

/** Over a limit of some windows. */
export function overRate(
  event: Event,
  subject: CounterKey & { what: string },
  reason: Reason,
  state: CounterState,
): Refusal {
  const { retryAfter, limit, window } = state
  const count = subject.what === 'bytes' ? printCount(limit) : limit
  const text = `Too many ${subject.what} ${nameOf(subject, reason.limit)} (${count} in ${window})`
  const wait = Math.max(retryAfter, 0)
  return {
    decision: limited(event, reason, text, retryAfter),
    wait,
    scope: subject.scope,
    subject: subject.subject,
  }
}

/** Over a limit of so many at once. */
export function overSlots({ lease: { scope, subject }, reason, most }: Slot): Refusal {
  const { what } = reason.limit
  const text = `Too many ${what} ${nameOf({ scope, subject }, reason.limit)} (${most} at once)`
  return { decision: limited('connection', reason, text), wait: 0, scope, subject }
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
  return { decision, wait: left, scope: block.scope, subject: block.subject }
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
  return limit.action === 'shadow' ? shadowOf({ decision, wait: 0, scope: '', subject: '' }) : decision
}
