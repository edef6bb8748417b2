// A step on its way: what this worker could serve by itself, and what it asks the store.
import type { Budget, Charged } from './budget'
import type { Step } from './contract'
import type { Asking, KnownSubject } from './known-subjects'

/** A budget that a charge of `ask` is to fill. */
export interface Asked {
  budget: Budget
  subject: KnownSubject
  /** The counter stands twice in the step: nothing is taken in advance. */
  isTwice?: boolean
}

/** A step, with what was spent from budgets and what is left to ask. */
export interface Attempt {
  step: Step
  /** For each charge where its answer comes from: a budget, a charge of `ask`, or nowhere, as it is unlimited. */
  from: (Charged | number | undefined)[]
  /** What the store must be asked. */
  ask: Step
  /** The budgets of the charges of `ask`. */
  asked: (Asked | undefined)[]
  /** Where each of these budgets stands in `ask`. */
  where: Map<Budget, number>
  asking: Map<KnownSubject, Asking>
  /** Something was heard before the answer came that may be newer. */
  isStale: boolean
}
