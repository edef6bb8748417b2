// A step as the arguments of step.lua, and its reply as an answer.
import type { Keys } from '../redis/keys'
import { loadScript } from '../redis/script'
import { type Answer, type Block, type CounterKey, type CounterState, LEASE, type Step } from './contract'
import type { Rate } from './rate'
import { BUCKETS } from './window'

/** The Lua scripts of the limiter. */
export const scripts = {
  step: loadScript(__dirname, 'step'),
  renew: loadScript(__dirname, 'renew'),
}

/** A call of step.lua. */
export interface Call {
  keys: string[]
  /** A JSON array. */
  args: string
}

/** The windows of a limit as JSON: they come from a file and are sent with every step. */
const written = new WeakMap<Rate, string>()

function writeWindows(limit: Rate): string {
  let text = written.get(limit)
  if (text === undefined) {
    text = JSON.stringify(limit.windows.map(({ name, ms, limit }) => [name, ms, limit]))
    written.set(limit, text)
  }
  return text
}

/** The keys and arguments of step.lua. `deadline` (unix ms by the server's clock): later than that, nothing is done. */
export function makeCall(
  names: Keys,
  step: Step,
  subjects: CounterKey[],
  now?: number,
  deadline?: number,
): Call {
  const { op, by, recall } = step
  // What is given back is given back by whoever is blocked, too.
  const keys = op === 'refund' ? [] : subjects.map(({ scope, subject }) => names.block(scope, subject))
  const charges: string[] = []
  for (const charge of step.charges) {
    const { scope, subject, what, cost, limit, shadow, checkOnly } = charge
    const { block = 0, extra = 0, settled = 0, at = step.at ?? 0 } = charge
    // For a block of its subject the block key is enough.
    if (!limit.windows.length) continue
    keys.push(names.rate(scope, subject, what))
    const flags = (shadow ? 1 : 0) + (checkOnly ? 2 : 0)
    charges.push(`[${flags},${cost},${block},${extra},${settled},${at},${writeWindows(limit)}]`)
  }
  const leases = step.leases.map(({ scope, subject, limit, id }) => {
    keys.push(names.concurrent(scope, subject))
    return `[${limit},${JSON.stringify(id)}]`
  })
  const channel = recall ? JSON.stringify(names.recall) : false
  const head = `"${op}",${now ?? false},${deadline ?? false},${JSON.stringify(by)},${LEASE},${channel}`
  return { keys, args: `[${head},[${charges.join()}],[${leases.join()}]]` }
}

/** Less than this, in ms, is left of a tenth: it is over. */
const MARGIN = 5

/** The tenth that ends first, ms from `at` (unix ms) on. */
function restOfTenth({ windows }: Rate, at: number): number {
  let rest = Number.POSITIVE_INFINITY
  for (const { ms } of windows) rest = Math.min(rest, ms / BUCKETS - (at % (ms / BUCKETS)))
  return rest
}

/**
 * step.lua's reply as an answer, undefined if it came too late and nothing was done. Throws if it is none. `sent`: when it
 * was asked, ms of `performance.now`.
 */
export function readReply(
  step: Step,
  subjects: CounterKey[],
  reply: unknown,
  sent: number,
): Answer | undefined {
  if (!Array.isArray(reply)) throw new Error('the script answered with something else')
  if (reply.length === 1) return undefined
  let i = 0
  const number = () => Number(reply[i++])
  const text = () => String(reply[i++])
  const at = number()
  const verdict = number()
  const found = number()
  const states = step.charges.map(({ limit: rate }): CounterState => {
    const { windows } = rate
    if (!windows.length) return { refused: false, window: '', used: 0, limit: 0, retryAfter: 0 }
    const decides = number()
    const { name = '', limit = 0 } = windows[Math.abs(decides) - 1] ?? {}
    const state = { refused: decides < 0, window: name, used: number(), limit, retryAfter: number() }
    const amount = number()
    if (amount < 0) return { ...state, ahead: -amount }
    if (!amount) return state
    return { ...state, granted: { amount, at, until: sent + restOfTenth(rate, at) - MARGIN } }
  })
  const leases = step.op === 'refund' ? [] : step.leases
  const slots = leases.map(() => ({ refused: number() === 1, used: number() }))
  const blocks: Block[] = []
  while (blocks.length < found) {
    const { scope = '', subject = '' } = subjects[number() - 1] ?? {}
    blocks.push({ scope, subject, until: number(), reason: text(), since: number(), by: text() })
  }
  const answer: Answer = { allowed: verdict === 1, at, states, slots, blocks, source: 'redis' }
  return verdict === 2 ? { ...answer, recalled: true } : answer
}
