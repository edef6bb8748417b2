// Logins whose outcome is not known yet. Each may fail, so each counts as failed for those that begin after it: else
// any number of passwords could be tried side by side before the first failure is counted.
import type { CheckResult, CounterKey } from '../../../core/limiter'
import type { Count } from '../policy/plan'

const open = new Map<string, number>()

const nameOf = ({ scope, subject }: CounterKey): string => `${scope} ${subject}`

/** Until then, in ms, one of the others is over. */
const SOON = 1000

export class Guess {
  #held: Count[]
  #before: Map<string, number>

  /** Begins. `counts`: of the plan that is put to the limiter. */
  constructor(counts: Count[]) {
    this.#held = counts.filter(({ reason, when }) => reason && when !== 'witness')
    const names = this.#held.map(({ charge }) => nameOf(charge))
    this.#before = new Map(names.map((name) => [name, open.get(name) ?? 0]))
    for (const name of names) open.set(name, (open.get(name) ?? 0) + 1)
  }

  /** What the limiter said, and refusals where it leaves no room for those that are being tried. */
  weigh(counts: Count[], said: CheckResult): CheckResult {
    const refusals = counts.flatMap(({ charge }, at) => {
      const state = said.states[at]
      const others = this.#before.get(nameOf(charge)) ?? 0
      if (!others || !state?.window || state.refused || charge.shadow) return []
      if (state.used + others < state.limit) return []
      const { scope, subject } = charge
      const over = { ...state, refused: true, retryAfter: SOON }
      return [{ kind: 'rate' as const, scope, subject, charge, state: over, retryAfter: SOON }]
    })
    return { ...said, refusals: [...said.refusals, ...refusals] }
  }

  /** Of those that count for others at a user's place than elsewhere, only one kind can be meant. */
  narrow(known: boolean): void {
    this.#end(({ when }) => when === (known ? 'elsewhere' : 'known'))
  }

  /** It has failed and was counted, has succeeded, or was given up. */
  end(): void {
    this.#end(() => true)
  }

  #end(isOver: (count: Count) => boolean): void {
    for (const { charge } of this.#held.filter(isOver)) {
      const name = nameOf(charge)
      const left = (open.get(name) ?? 1) - 1
      if (left) open.set(name, left)
      else open.delete(name)
    }
    this.#held = this.#held.filter((count) => !isOver(count))
  }
}
