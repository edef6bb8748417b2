// A step as the arguments of step.lua, and its reply as an answer.
import type { Keys } from '../keys'
import { type Answer, type Block, LEASE, type Standing, type Step, type Subject } from './contract'

export interface Call {
  keys: string[]
  /** One string of words. */
  args: string
}

/** The keys and arguments of step.lua. `deadline` (unix ms by the server's clock): later than that, nothing is done. */
export function makeCall(
  names: Keys,
  step: Step,
  subjects: Subject[],
  now?: number,
  deadline?: number,
): Call {
  const { op, charges, leases, by, at = 0 } = step
  const keys = subjects.map(({ whom, subject }) => names.block(whom, subject))
  const args = [op, now ?? '-', deadline ?? '-', by, at, LEASE, subjects.length, charges.length]
  for (const { whom, subject, what, cost, limit, shadow, probe, block = 0 } of charges) {
    keys.push(names.rate(whom, subject, what))
    args.push((shadow ? 1 : 0) + (probe ? 2 : 0), cost, block, limit.windows.length)
    for (const { name, ms, limit: most } of limit.windows) args.push(name, ms, most)
  }
  for (const { whom, subject, limit, id } of leases) {
    keys.push(names.concurrent(whom, subject))
    args.push(limit, id)
  }
  return { keys, args: args.join(' ') }
}

/** step.lua's reply as an answer, undefined if it came too late and nothing was done. Throws if it is none. */
export function readReply(step: Step, subjects: Subject[], reply: unknown): Answer | undefined {
  if (!Array.isArray(reply)) throw new Error('the script answered with something else')
  if (reply.length === 1) return undefined
  let i = 0
  const number = () => Number(reply[i++])
  const text = () => String(reply[i++])
  const at = number()
  const allowed = number() === 1
  const found = number()
  const standings = step.charges.map(({ limit: { windows } }): Standing => {
    const decides = number()
    const { name = '', limit = 0 } = windows[Math.abs(decides) - 1] ?? {}
    return { refused: decides < 0, window: name, used: number(), limit, retryAfter: number() }
  })
  const slots = step.leases.map(() => ({ refused: number() === 1, used: number() }))
  const blocks: Block[] = []
  while (blocks.length < found) {
    const { whom = '', subject = '' } = subjects[number() - 1] ?? {}
    blocks.push({ whom, subject, until: number(), reason: text(), since: number(), by: text() })
  }
  return { allowed, at, standings, slots, blocks, source: 'redis' }
}
