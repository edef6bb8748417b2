// A step in parts and their answers as one: on a Redis Cluster, where a script reaches one hash slot only, one part a
// counter key; and everywhere where a client has made a step large, so that no part holds up others for long.
import { setImmediate as nextTurn } from 'node:timers/promises'
import { type Answer, type Charge, type CounterKey, keysOf, type Step, type Store } from './contract'

/** Counter keys in one part: a Redis or a master spends about a millisecond on it. */
const MOST = 100
/** Change-overs of stores in the middle of one step after which it begins again. */
const RESTARTS = 3

interface Part {
  step: Step
  /** Where its charges and leases stand in the whole step. */
  charges: number[]
  leases: number[]
}

/** Parts of up to `most` counter keys. All of one key is in one part. */
export function partsOf(step: Step, most: number): Part[] {
  const parts: Part[] = []
  const partOf = new Map<string, Map<string, Part>>()
  for (const [i, { scope, subject }] of keysOf(step).entries()) {
    if (i % most === 0) {
      parts.push({ step: { ...step, charges: [], leases: [] }, charges: [], leases: [] })
    }
    const subjects = partOf.get(scope) ?? new Map<string, Part>()
    partOf.set(scope, subjects.set(subject, parts.at(-1)!))
  }
  const find = ({ scope, subject }: CounterKey) => partOf.get(scope)!.get(subject)!
  for (const [i, charge] of step.charges.entries()) {
    const part = find(charge)
    part.step.charges.push(charge)
    part.charges.push(i)
  }
  for (const [i, lease] of step.leases.entries()) {
    const part = find(lease)
    part.step.leases.push(lease)
    part.leases.push(i)
  }
  return parts
}

/** A part that was allowed. */
interface Charged {
  step: Step
  answer: Answer
}

interface Gathered {
  /** Undefined if a part failed: then `error` says why. */
  answer?: Answer
  error?: unknown
  /** The steps that give back what was charged in vain. */
  undo: Step[]
}

/** All parts must allow. */
export function gather(step: Step, parts: Part[], results: PromiseSettledResult<Answer>[]): Gathered {
  const done = results.flatMap((result, i) => {
    if (result.status === 'rejected') return []
    return [{ step: parts[i]!.step, part: parts[i]!, answer: result.value }]
  })
  const allowed = done.every(({ answer }) => answer.allowed)
  const failed = results.find((result) => result.status === 'rejected')
  const inVain = step.op === 'check' && (failed || !allowed)
  const vain = done.filter(({ answer }) => inVain && answer.allowed)
  const undo = vain.map(undoing)
  if (failed) return { error: failed.reason, undo }
  for (const { step, answer } of vain) {
    for (const [i, { cost, checkOnly }] of step.charges.entries()) {
      const { granted, ...state } = answer.states[i]!
      const charged = (checkOnly ? 0 : cost) + (granted?.amount ?? 0)
      answer.states[i] = { ...state, used: state.used - charged }
    }
  }
  const whole: Answer = {
    allowed,
    at: done.reduce((latest, { answer }) => Math.max(latest, answer.at), 0),
    states: [],
    slots: [],
    blocks: done.flatMap(({ answer }) => answer.blocks),
    source: done[0]?.answer.source ?? 'memory',
  }
  if (!allowed && done.some(({ answer }) => answer.recalled)) whole.recalled = true
  for (const { part, answer } of done) {
    for (const [i, where] of part.charges.entries()) whole.states[where] = answer.states[i]!
    for (const [i, where] of part.leases.entries()) whole.slots[where] = answer.slots[i]!
  }
  return { answer: whole, undo }
}

/** The step that gives back what a part has charged and leased. */
const undoing = ({ step, answer: { at, source, states } }: Charged): Step => ({
  ...step,
  op: 'refund',
  charges: step.charges.flatMap((charge, i): Charge[] => {
    const { cost, checkOnly, settled = 0 } = charge
    const granted = states[i]?.granted?.amount ?? 0
    if (checkOnly && !granted) return []
    return [{ ...charge, cost: (checkOnly ? 0 : cost) + granted, settled: granted - settled, at }]
  }),
  at,
  source,
})

/**
 * The answer to a step of any size, all or nothing: one that touches many counter keys is put to the store in parts, one
 * after the other. Where another store counts from the middle on, what the first one has charged is given back, and all
 * is put to the other one. Rejects where the store rejects.
 */
export async function stepInParts(
  store: Store,
  step: Step,
  now?: number,
  restarts = RESTARTS,
): Promise<Answer> {
  if (step.charges.length + step.leases.length <= MOST) return store.step(step, now)
  const parts = partsOf(step, MOST)
  const answers: Answer[] = []
  const hasChanged = () => restarts > 0 && answers.at(-1)?.source !== answers[0]?.source
  for (const part of parts) {
    answers.push(await store.step(part.step, now))
    if (hasChanged()) break
    // A store in memory answers at once: others get their turn in between.
    await nextTurn()
  }
  if (hasChanged() && step.op !== 'refund') {
    for (const [i, answer] of answers.entries()) {
      if (answer.allowed && step.op !== 'dry-run')
        await store.step(undoing({ step: parts[i]!.step, answer }), now)
    }
    return stepInParts(store, step, now, restarts - 1)
  }
  const { answer, undo } = gather(
    step,
    parts,
    answers.map((value) => ({ status: 'fulfilled', value })),
  )
  for (const back of undo) await store.step(back, now)
  return answer!
}
