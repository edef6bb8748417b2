// The budgets of a worker that hold something. Each is given back when it was not used for a while, and before its tenth ends.
import { type Budget, IDLE } from './budget'
import type { Grant } from './contract'
import type { Returns } from './returns'

/** What ends within so many ms is given back, so that it arrives before its tenth ends: later nobody can recall it. */
const ENDING = 50
/** One look gives back all that ends within so many ms more. */
const TOGETHER = 5

/** `clock`: ms of `performance.now`. */
export class HeldBudgets {
  #budgets = new Set<Budget>()
  /** The next look at what ends. */
  #timer: NodeJS.Timeout | undefined
  #due = Number.POSITIVE_INFINITY

  constructor(
    private readonly returns: Returns,
    private readonly clock: () => number,
  ) {}

  /** Holds what was granted; at once given back if it ends soon, or is not wanted any more. */
  add(budget: Budget, granted: Grant, isWanted: boolean): void {
    const now = this.clock()
    const isKept = isWanted && granted.until - ENDING > now
    if (!isKept || !budget.isOf(granted.at)) this.end(budget)
    budget.add(granted, now)
    this.#budgets.add(budget)
    if (isKept) {
      this.#lookBefore(granted.until)
      return
    }
    this.end(budget)
    this.returns.within(0)
  }

  /** Gives back what is left of it. */
  end(budget: Budget): void {
    this.#budgets.delete(budget)
    const back = budget.end()
    if (back) this.returns.add(back)
  }

  endAll(budgets: Iterable<Budget> = this.#budgets): void {
    for (const budget of budgets) this.end(budget)
  }

  /** Gives back those that are not used. To be called several times a second. */
  endUnused(): void {
    const now = this.clock()
    for (const budget of this.#budgets) if (now - budget.usedAt >= IDLE) this.end(budget)
  }

  /** Forgets what is left of them, as it is gone from the store. */
  drop(budgets: Iterable<Budget> = this.#budgets): void {
    for (const budget of budgets) {
      budget.end()
      this.#budgets.delete(budget)
    }
  }

  #lookBefore(until: number): void {
    const due = until - ENDING
    if (due >= this.#due) return
    clearTimeout(this.#timer)
    this.#due = due
    this.#timer = setTimeout(() => this.#look(), Math.max(due - this.clock(), 0)).unref()
  }

  #look(): void {
    const ended = this.clock() + ENDING + TOGETHER
    let next = Number.POSITIVE_INFINITY
    for (const budget of this.#budgets) {
      if (budget.until <= ended) this.end(budget)
      else next = Math.min(next, budget.until)
    }
    void this.returns.flush()
    this.#due = Number.POSITIVE_INFINITY
    if (next < Number.POSITIVE_INFINITY) this.#lookBefore(next)
  }
}
