// A plan as a question to the limiter, and a verdict as an answer to the client.

import { held, rememberRefused } from '../../../core/haraka/early-refusal'
import { answer, record } from '../../../core/haraka/reply'
import type { Connection, Next, Plugin } from '../../../core/haraka/types'
import type { CheckResult } from '../../../core/limiter'
import { tagOf } from '../../../core/redis/keys'
import { services } from '../../../core/services'
import { type Plan, stepOf } from '../policy/plan'
import { withRetryAfter, withTime } from '../policy/refusal'
import type { BlockOrder, LimitVerdict } from '../policy/verdict'

/** Shadow refusals that one command writes to the log at most: a message may have thousands of recipient domains. */
const SHADOWS = 20

/** ms that a refusal is remembered at most that may end sooner than it says. */
const UNSURE = 5000

/** Puts a plan to the limiter; undefined where it counts nothing or there is no limiter. */
export async function ask(op: 'check' | 'dry-run' | 'charge', plan: Plan): Promise<CheckResult | undefined> {
  const { limiter } = services
  const { charges, leases } = stepOf(plan)
  if (!limiter || charges.length + leases.length === 0) return undefined
  if (op === 'charge') return limiter.charge(charges)
  return op === 'check' ? limiter.check(charges, leases, plan.next) : limiter.dryRun(charges, leases)
}

/**
 * Answers the hook where the verdict refuses, and returns whether it did. `about`: what it is about, for the log.
 * `remembered`: refused again, without asking the store.
 */
export function refuse(
  plugin: Plugin,
  next: Next,
  connection: Connection,
  { refusal, blocks, shadows, isUnsure }: LimitVerdict,
  about: Record<string, string> = {},
  remembered = false,
): boolean {
  for (const shadow of shadows.slice(0, SHADOWS)) record(plugin, connection, shadow, about)
  if (!refusal) return false
  setBlocks(blocks)
  const decision = withRetryAfter(refusal)
  const more = refusal.subject === connection.remote.ip ? about : { ...about, subject: refusal.subject }
  const again = remembered ? { ...decision, again: true } : decision
  const spoken = answer(plugin, decision.close ? held(next) : next, connection, again, more)
  if (decision.close) {
    const { wait, scope, subject } = refusal
    const tag = tagOf(scope, subject)
    rememberRefused(plugin, connection, {
      decision: refusal.decision,
      spoken,
      wait,
      withTime,
      tag,
      remembersFor: isUnsure ? UNSURE : (services.limiter?.remembersFor ?? UNSURE),
    })
  }
  return true
}

/** Nobody waits for it: where it fails, the next refusal sets it. */
export function setBlocks(blocks: BlockOrder[]): void {
  for (const { ms, reason, ...key } of blocks) services.limiter?.block(key, ms, reason).catch(() => undefined)
}
