// On a Redis Cluster a script reaches one slot only: a step in parts, one a subject, and their answers as one.
import { type Answer, keysOf, type Step } from './contract'

export interface Part {
  step: Step
  /** Where its charges and leases stand in the whole step. */
  charges: number[]
  leases: number[]
}

export function perSubject(step: Step): Part[] {
  const indexes = (items: { scope: string; subject: string }[], scope: string, subject: string) =>
    items.flatMap((item, i) => (item.scope === scope && item.subject === subject ? [i] : []))
  return keysOf(step).map(({ scope, subject }) => {
    const charges = indexes(step.charges, scope, subject)
    const leases = indexes(step.leases, scope, subject)
    const part = { charges: charges.map((i) => step.charges[i]!), leases: leases.map((i) => step.leases[i]!) }
    return { step: { ...step, ...part }, charges, leases }
  })
}

export interface Gathered {
  /** Undefined if a part failed: then `error` says why. */
  answer?: Answer
  error?: unknown
  /** The parts that were charged in vain. */
  undo: { step: Step; answer: Answer }[]
}

/** All parts must allow. */
export function gather(step: Step, parts: Part[], results: PromiseSettledResult<Answer>[]): Gathered {
  const done = results.flatMap((result, i) => {
    if (result.status === 'rejected') return []
    return [{ part: parts[i]!, answer: result.value }]
  })
  const allowed = done.every(({ answer }) => answer.allowed)
  const failed = results.find((result) => result.status === 'rejected')
  const inVain = step.op === 'check' && (failed || !allowed)
  const undo = done.flatMap(({ part, answer }) =>
    inVain && answer.allowed ? [{ step: part.step, answer }] : [],
  )
  if (failed) return { error: failed.reason, undo }
  for (const { step, answer } of undo) {
    for (const [i, { cost, checkOnly }] of step.charges.entries())
      if (!checkOnly) answer.states[i]!.used -= cost
  }
  const whole: Answer = {
    allowed,
    at: Math.max(...done.map(({ answer }) => answer.at)),
    states: [],
    slots: [],
    blocks: [],
    source: 'redis',
  }
  for (const { part, answer } of done) {
    for (const [i, where] of part.charges.entries()) whole.states[where] = answer.states[i]!
    for (const [i, where] of part.leases.entries()) whole.slots[where] = answer.slots[i]!
    whole.blocks.push(...answer.blocks)
  }
  return { answer: whole, undo }
}
