// A step as the arguments of step.lua, and its reply as an answer.
import type { Keys } from '../keys'
import { printRate } from '../rate'
import { type Answer, type Block, blockReason, LEASE, type Standing, type Step, subjectsOf } from './contract'

export interface Call {
  keys: string[]
  args: (string | number)[]
}

/** The keys and arguments of step.lua. `deadline` (unix ms by the server's clock): later than that, nothing is done. */
export function makeCall(names: Keys, step: Step, now?: number, deadline?: number): Call {
  const { op, charges, leases, by, at = 0 } = step
  const subjects = subjectsOf(step)
  const keys = subjects.map(({ whom, subject }) => names.block(whom, subject))
  const args = [op, now ?? '', deadline ?? '', by, at, LEASE, subjects.length, charges.length]
  for (const charge of charges) {
    const { whom, subject, what, cost, limit, shadow, probe, block = 0 } = charge
    keys.push(names.rate(whom, subject, what))
    const index = subjects.findIndex((other) => other.whom === whom && other.subject === subject) + 1
    const reason = block ? blockReason(charge, printRate) : ''
    args.push(index, cost, (shadow ? 1 : 0) + (probe ? 2 : 0), block, reason, limit.windows.length)
    for (const { name, ms, limit: most } of limit.windows) args.push(name, ms, most)
  }
  for (const { whom, subject, limit, id } of leases) {
    keys.push(names.concurrent(whom, subject))
    args.push(limit, id)
  }
  return { keys, args }
}

/** step.lua's reply as an answer, undefined if it came too late and nothing was done. Throws if it is none. */
export function readReply(step: Step, reply: unknown): Answer | undefined {
  if (!Array.isArray(reply)) throw new Error('the script answered with something else')
  const values = reply.values()
  const number = () => Number(values.next().value)
  const text = () => String(values.next().value)
  const at = number()
  if (reply.length === 1) return undefined
  const allowed = number() === 1
  const blocks: Block[] = []
  for (const subject of subjectsOf(step)) {
    const block = { ...subject, until: number(), reason: text(), since: number(), by: text() }
    if (block.until) blocks.push(block)
  }
  const standings = step.charges.map(({ limit: { windows } }): Standing => {
    const refused = number() === 1
    const window = windows[number() - 1]?.name ?? ''
    return { refused, window, used: number(), limit: number(), retryAfter: number() }
  })
  const slots = step.leases.map(() => ({ refused: number() === 1, used: number() }))
  return { allowed, at, standings, slots, blocks }
}
