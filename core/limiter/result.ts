// A store's answer in the words of those who asked.
import type { Attempt } from './attempt'
import type { Charged } from './budget'
import {
  type Answer,
  type Block,
  type Charge,
  type CounterState,
  type Lease,
  NEVER,
  type Source,
  type Step,
  type Store,
} from './contract'

interface Refused {
  scope: string
  subject: string
  /** ms until it may come back; Infinity: never with this cost. */
  retryAfter: number
}

/** Why a step was refused. */
export type Refusal =
  | (Refused & { kind: 'rate'; charge: Charge; state: CounterState })
  | (Refused & { kind: 'concurrency'; lease: Lease; used: number })
  | (Refused & { kind: 'block'; block: Block })

/** True where it holds until the subject may come back: nobody can give back what it was refused for. */
export const isLasting = (refusal: Refusal): boolean =>
  refusal.kind !== 'rate' || !(refusal.state.ahead || refusal.charge.refundable)

/** Where a result was charged. */
export const CHARGED_IN = Symbol('charged in')

/** What the limiter answers: a store's answer, or a refusal from memory. */
export interface CheckResult {
  op: Step['op']
  allowed: boolean
  /** Empty if allowed. A block comes first, then the rest, the longest wait first. */
  refusals: Refusal[]
  /** How each charge stands, in their order, shadow charges too. Empty if remembered. */
  states: CounterState[]
  /** How many leases each slot has, in the order of the leases. Empty if remembered. */
  slots: { used: number }[]
  /** Who counted; `remembered`: refused by this process' own memory of an earlier refusal. */
  source: Source | 'remembered'
  /** What was charged, for `refund`. */
  charged: Charged[]
  /** Something was heard before the answer came that may be newer: a refusal is not to be remembered. */
  isStale?: boolean
  [CHARGED_IN]?: Store
}

/** A slot may come free at any time; so long, in ms, a client is asked to wait, and is refused without asking. */
const SLOT_WAIT = 1000

function refusalsOf(step: Step, { states, slots, blocks, at }: Answer): Refusal[] {
  const refusals: Refusal[] = blocks.map((block) => ({
    kind: 'block',
    scope: block.scope,
    subject: block.subject,
    block,
    retryAfter: block.until - at,
  }))
  for (const [i, charge] of step.charges.entries()) {
    const state = states[i]
    if (!state?.refused || charge.shadow) continue
    const { scope, subject } = charge
    const retryAfter = state.retryAfter === NEVER ? Number.POSITIVE_INFINITY : state.retryAfter
    refusals.push({ kind: 'rate', scope, subject, charge, state, retryAfter })
  }
  for (const [i, lease] of step.leases.entries()) {
    const slot = slots[i]
    if (!slot?.refused) continue
    const { scope, subject } = lease
    refusals.push({ kind: 'concurrency', scope, subject, lease, used: slot.used, retryAfter: SLOT_WAIT })
  }
  const rank = ({ kind }: Refusal) => (kind === 'block' ? 0 : 1)
  return refusals.sort((a, b) => rank(a) - rank(b) || (a.retryAfter < b.retryAfter ? 1 : -1))
}

/** Makes the result of a step out of a store's answer. `charged`: what may be given back. */
export function resultOf(
  step: Step,
  answer: Answer,
  charged: Charged[] = chargedBy(step, answer.at),
): CheckResult {
  const { allowed, states, slots, source } = answer
  return {
    op: step.op,
    allowed,
    refusals: allowed ? [] : refusalsOf(step, answer),
    states,
    slots,
    source,
    charged: allowed ? charged : [],
  }
}

/** What a step charges. `from`: what was spent instead of charged for it. */
export function chargedBy({ op, charges }: Step, at: number, from: Attempt['from'] = []): Charged[] {
  const charged: Charged[] = []
  for (const [i, charge] of charges.entries()) {
    if (op === 'check' && charge.checkOnly) continue
    const spent = from[i]
    charged.push(typeof spent === 'object' ? spent : { charge, at, budget: undefined, generation: 0 })
  }
  return charged
}

/** The result of a step that asks nothing. */
export const EMPTY: CheckResult = {
  op: 'check',
  allowed: true,
  refusals: [],
  states: [],
  slots: [],
  source: 'memory',
  charged: [],
}
