// What this worker holds of one counter in advance: charged in the store, and spent here without asking.
import type { Charge, CounterState, Grant } from './contract'
import type { Rate } from './rate'

/** So small a limit (the smallest of its windows) has nothing to spare but what a session needs. */
const SMALL = 100
/** So long, ms, a look at a counter of which not more than half is used holds. */
const GLANCE = 5000
/** Not used for this long (ms), what is held is given back: only who was here since then is granted some. */
export const IDLE = 1000
/** The first grant that is asked for is this part of the largest. */
const FIRST = 64

const smallest = ({ windows }: Rate): number =>
  windows.reduce((least, { limit }) => Math.min(least, limit), Infinity)

/** A charge that may be given back. */
export interface Charged {
  charge: Charge
  /** When it was charged, unix ms of the store's clock. */
  at: number
  /** Where it was spent from what was charged in advance; undefined: it was charged for this step. */
  budget: Budget | undefined
  /** Of the budget, when it was spent. */
  generation: number
}

/** The share of one worker in one counter. Times are ms of `performance.now`. */
export class Budget {
  /** To be spent. */
  left = 0
  /** Granted and not accounted for: `left`, and what was spent of it. */
  granted = 0
  /** Asked for in advance, and not answered yet. */
  pending = 0
  /** When it was charged (unix ms of the store's clock), and until when it may be spent. */
  at = 0
  until = 0
  /** When it was last spent or granted. */
  usedAt = Number.NEGATIVE_INFINITY
  /** Changes when all that was held is given back: what was spent before cannot be put back. */
  generation = 0
  /** How the counter stood when the store was last asked. */
  state: CounterState = { refused: false, used: 0, limit: 0, window: '', retryAfter: 0 }
  /** So much is asked for next: more where it was used up, less where it was given back. */
  #want: number
  #wasGranted = false
  #seenAt = Number.NEGATIVE_INFINITY

  constructor(readonly charge: Charge) {
    this.#want = Math.max(1, Math.ceil((charge.advance ?? 0) / FIRST))
  }

  /** True where `cost` can be spent now, or a look can be answered. */
  covers({ cost, glance, checkOnly }: Charge, now: number): boolean {
    if (glance && checkOnly) return now - this.#seenAt < GLANCE && 2 * this.state.used <= this.state.limit
    return this.left >= cost && now < this.until
  }

  spend(charge: Charge, now: number): Charged {
    this.left -= charge.cost
    this.usedAt = now
    return this.shown(charge)
  }

  /** There is enough of it. */
  shown(charge: Charge): Charged {
    return { charge, at: this.at, budget: this, generation: this.generation }
  }

  /** How the counter stands by the store. */
  see(state: CounterState, now: number): void {
    this.#seenAt = now
    this.state = state.refused ? { ...state, refused: false, used: state.limit } : state
  }

  /** So much of a cost cannot be spent. */
  lacks({ cost }: Charge, now: number): number {
    return Math.min(cost - (now < this.until ? this.left : 0), this.#room)
  }

  /** What to ask, so that this can be spent later. It refuses nobody. */
  next(charge: Charge, now: number): Charge {
    if (charge.glance) return { ...charge, checkOnly: true, shadow: true }
    return this.ask({ ...charge, cost: 0, shadow: true }, this.lacks(charge, now))
  }

  /** How much to ask for beside a cost that is not covered. */
  wanted({ advance = 0, limit, checkOnly, cost }: Charge, now: number): number {
    if (!advance) return 0
    if (checkOnly) return cost
    if (smallest(limit) < SMALL || now - Math.max(this.usedAt, this.#seenAt) >= IDLE) return 0
    if (this.#wasGranted) this.#want = Math.min(2 * this.#want, advance)
    return Math.min(this.#want, this.#room)
  }

  /** However many ask at once, no more than `advance` is held. */
  get #room(): number {
    return Math.max((this.charge.advance ?? 0) - this.left - this.pending, 0)
  }

  /** The charge with `extra` wanted in advance. It tells the store what was spent of what it granted before. */
  ask(charge: Charge, extra: number): Charge {
    const settled = this.granted - this.left
    this.granted = this.left
    return { ...charge, extra, settled, at: this.at }
  }

  /** Takes a grant. What is held already must be of the same tenths: see `isOf`. */
  add({ amount, at, until }: Grant, now: number): void {
    this.left += amount
    this.granted += amount
    this.at = at
    this.until = until
    this.usedAt = now
    this.#wasGranted = true
  }

  /** True where `at` (unix ms of the store's clock) lies in the tenths in which this was charged. */
  isOf(at: number): boolean {
    return this.charge.limit.windows.every(
      ({ ms }) => Math.floor((at * 10) / ms) === Math.floor((this.at * 10) / ms),
    )
  }

  /** Ends it: the charge that gives back what is left, undefined if there is nothing to account for. */
  end(): Charge | undefined {
    const { left, granted, at, charge } = this
    this.left = 0
    this.granted = 0
    this.#wasGranted = false
    this.generation++
    if (left === 0 && granted === 0) return undefined
    if (left > 0) this.#want = Math.max(1, Math.floor(this.#want / 2))
    const { scope, subject, what, limit } = charge
    return { scope, subject, what, limit, cost: left, settled: granted, at }
  }
}
