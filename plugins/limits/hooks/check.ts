// A verdict as an answer to the client, and a plan as a question to the limiter.

import { rememberRefused } from '../../../core/haraka/early-refusal'
import { answer, record } from '../../../core/haraka/reply'
import type { Connection, Next, Plugin } from '../../../core/haraka/types'
import type { Verdict as Said } from '../../../core/limiter'
import { services } from '../../../core/services'
import { type Plan, stepOf } from '../policy/plan'
import { speak, type Verdict } from '../policy/verdict'

/** Puts a plan to the limiter; undefined where it counts nothing or there is no limiter. */
export async function ask(op: 'check' | 'peek' | 'charge', plan: Plan): Promise<Said | undefined> {
  const { charges, leases } = stepOf(plan)
  if (!services.limiter || charges.length + leases.length === 0) return undefined
  return op === 'charge' ? services.limiter.charge(charges) : services.limiter[op](charges, leases)
}

/** Answers the hook if the verdict refuses. `remembered`: refused again, without asking anybody. */
export function refuse(
  plugin: Plugin,
  next: Next,
  connection: Connection,
  { refusal, shadows }: Verdict,
  about: Record<string, string> = {},
  remembered = false,
): boolean {
  for (const shadow of shadows) record(plugin, connection, shadow, about)
  if (!refusal) return false
  const decision = speak(refusal)
  const whom = refusal.subject === connection.remote.ip ? about : { ...about, subject: refusal.subject }
  const again = remembered ? { ...decision, again: true } : decision
  const spoken = answer(plugin, next, connection, again, whom)
  if (decision.close)
    rememberRefused(plugin, connection, { spoken, wait: refusal.wait, say: (left) => speak(refusal, left) })
  return true
}
