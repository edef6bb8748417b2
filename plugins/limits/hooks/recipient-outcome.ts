// Recipients that were refused for good: who asks for too many is not listened to, so that nobody finds out which
// mailboxes there are. Those that are refused before our hook at rcpt_ok are never seen there: so this is looked up at
// MAIL, together with what is counted there, and after each recipient that was refused.

import type { Decision } from '../../../core/decision'
import { partyOf } from '../../../core/haraka/party-of'
import type { Connection } from '../../../core/haraka/types'
import type { CheckResult } from '../../../core/limiter'
import { services } from '../../../core/services'
import { type Plan, refusing } from '../policy/plan'
import { withRetryAfter } from '../policy/refusal'
import { overNow } from '../policy/verdict'
import { ask, setBlocks } from './check'
import { runtime } from './runtime'
import { sessionOf } from './session'

/** So long, ms; then the limiter is asked again. */
const SHUT = 5000

/** Reads the answer to a look, and shuts the client out where there is no room left. */
export function shutOut(connection: Connection, plan: Plan, result: CheckResult): void {
  const { refusal, blocks } = overNow({ ...plan, event: 'recipient' }, result)
  if (!refusal) return
  const now = performance.now()
  const until = now + Math.min(refusal.wait || SHUT, SHUT)
  sessionOf(connection).shut = { refusal, blocks, since: now, until }
}

/** Why this client gets no recipient now. The first time it blocks whom the section blocks. */
export function shutFor(connection: Connection): Decision | undefined {
  const { shut } = sessionOf(connection)
  const now = performance.now()
  if (!shut || now >= shut.until) return undefined
  setBlocks(shut.blocks.splice(0))
  return withRetryAfter(shut.refusal, Math.max(shut.refusal.wait - (now - shut.since), 1))
}

/** Counts recipients that were refused for good, and shuts the client out where that reaches the limit. */
export async function countRefused(connection: Connection, cost: number): Promise<void> {
  const plan = refusing(runtime.limits.value, partyOf(connection), cost)
  const said = await ask('charge', plan)
  const isFull = said?.states.some(({ window, used, limit }) => window !== '' && used >= limit)
  if (!isFull) return
  // Once, when the limit is reached: what was charged does not tell when there is room again.
  const look = refusing(runtime.limits.value, partyOf(connection), 1)
  const found = await ask('dry-run', look)
  if (found) shutOut(connection, look, found)
}

/**
 * What came of the last recipient: Haraka has no hook for it, but counts. One that was charged and then refused by
 * something else is given back; those refused for good, not by a limit, are counted.
 */
export async function settle(connection: Connection): Promise<void> {
  const session = sessionOf(connection)
  const { accept, reject } = connection.rcpt_count
  if (session.pending && accept <= session.pending.accepted)
    void services.limiter?.refund(session.pending.verdict)
  delete session.pending
  const cost = reject - session.refused - session.refusedByLimit
  session.refused = reject
  session.refusedByLimit = 0
  if (cost > 0) await countRefused(connection, cost)
}
