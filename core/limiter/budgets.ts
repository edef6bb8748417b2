// Steps are first served from what this worker holds in advance; only the rest is asked of the store, which then grants
// something in advance again. Only while the worker listens: otherwise it could not hear that others want it back.
import type { Asked, Attempt } from './attempt'
import { Budget, type Charged } from './budget'
import { type Answer, type Charge, type CounterState, newCharge, type Step } from './contract'
import { HeldBudgets } from './held-budgets'
import { type KnownSubject, KnownSubjects } from './known-subjects'
import { isSameRate, unlimited } from './rate'
import type { Returns } from './returns'

const UNLIMITED: CounterState = { refused: false, used: 0, limit: 0, window: '', retryAfter: 0 }

/** All that one worker holds in advance. `clock`: ms of `performance.now`. */
export class Budgets {
  #isListening = false
  #known = new KnownSubjects(({ budgets }) => this.#held.endAll(budgets.values()))
  #held: HeldBudgets

  constructor(
    private readonly returns: Returns,
    private readonly clock: () => number = () => performance.now(),
  ) {
    this.#held = new HeldBudgets(returns, clock)
  }

  /** False: every step asks the store, and nothing is taken in advance. */
  get isListening(): boolean {
    return this.#isListening
  }

  /** From now on the worker listens, or does not. What it knew may be wrong, and what it holds is given back. */
  listen(isListening: boolean): void {
    this.#isListening = isListening
    this.#known.clear()
  }

  /** What was counted for this subject, or for all, is gone, and with it what was taken in advance. */
  reset(tag?: string): void {
    if (tag === undefined) {
      this.#held.drop()
      this.#known.clear()
      return
    }
    this.#held.drop(this.#known.find(tag)?.budgets.values() ?? [])
    this.#known.changed(tag)
  }

  /** See `KnownSubjects.knowBlocks`. */
  knowBlocks(tags: string[]): void {
    if (this.#isListening) this.#known.knowBlocks(tags)
  }

  /** A block of this subject may have come or gone. */
  changed(tag: string): void {
    this.#known.changed(tag)
  }

  /** Somebody may be refused only because of what this worker holds: all of this subject is given back. */
  recalled(tag: string): void {
    const known = this.#known.find(tag)
    if (!known) return
    if (known.asking) known.asking.isRecalled = true
    this.#held.endAll(known.budgets.values())
  }

  /** To be called several times a second: what is not used is given back. */
  tick(): void {
    this.#held.endUnused()
  }

  /** Gives back everything. */
  endAll(): void {
    this.#held.endAll()
  }

  /** The answer to a step that can be served from what is held, and what was spent for it; undefined if not. */
  serve({ charges, leases }: Step): { states: CounterState[]; charged: Charged[] } | undefined {
    if (!this.#isListening || leases.length > 0) return undefined
    const now = this.clock()
    const states: CounterState[] = []
    const charged: Charged[] = []
    for (const charge of charges) {
      const known = this.#known.get(charge)
      const isCounted = charge.limit.windows.length > 0
      const budget = isCounted ? budgetIn(known, charge) : undefined
      if (!this.#known.isClear(known) || (isCounted && !budget?.covers(charge, now))) {
        for (const spent of charged) this.putBack(spent)
        return undefined
      }
      states.push(budget?.state ?? UNLIMITED)
      if (budget && !charge.checkOnly) charged.push(budget.spend(charge, now))
    }
    return { states, charged }
  }

  /** Spends what is held, and says what must be asked. `prefetch`: what to take along. */
  attempt(step: Step, prefetch?: () => Charge[]): Attempt {
    const attempt: Attempt = {
      step,
      from: [],
      ask: step,
      asked: [],
      asking: new Map(),
      where: new Map(),
      isStale: false,
    }
    if (!this.#isListening) {
      attempt.from = step.charges.map((_, i) => i)
      return attempt
    }
    const now = this.clock()
    const ask: Step = { ...step, charges: [] }
    attempt.ask = ask
    const unclear = new Set<KnownSubject>()
    for (const charge of step.charges) {
      const known = this.#known.get(charge)
      if (!this.#known.isClear(known)) unclear.add(known)
      attempt.from.push(this.#spend(attempt, known, charge, now))
    }
    for (const { scope, subject } of unclear) {
      if (ask.charges.some((charge) => charge.scope === scope && charge.subject === subject)) continue
      ask.charges.push(newCharge({ scope, subject }, '', unlimited, 0))
    }
    for (const charge of prefetch?.() ?? []) this.#take(attempt, charge, now)
    for (const [budget, at] of attempt.where) budget.pending += ask.charges[at]!.extra ?? 0
    for (const key of ask.charges) this.#begin(attempt, this.#known.get(key))
    for (const key of ask.leases) this.#begin(attempt, this.#known.get(key))
    return attempt
  }

  /** The answer to all of an attempt. `answer`: the store's to what it was asked. */
  learn(attempt: Attempt, answer: Answer): Answer {
    this.#receive(attempt, answer)
    if (!answer.allowed) this.#unspend(attempt)
    const states = attempt.from.map((where) => {
      if (typeof where === 'number') return answer.states[where]!
      return where?.budget?.state ?? UNLIMITED
    })
    return { ...answer, states }
  }

  /** Puts back a cost that was spent and then not used. */
  putBack({ budget, generation, at, charge }: Charged): void {
    if (generation === budget?.generation) budget.left += charge.cost
    else this.returns.add({ ...charge, settled: 0, at })
  }

  #begin({ asking }: Attempt, known: KnownSubject): void {
    if (!asking.has(known)) asking.set(known, this.#known.ask(known))
  }

  #spend(attempt: Attempt, subject: KnownSubject, charge: Charge, now: number): Charged | number | undefined {
    if (!charge.limit.windows.length) return undefined
    const budget = isHeld(charge) ? budgetOf(subject, charge) : undefined
    if (budget?.covers(charge, now))
      return charge.checkOnly ? budget.shown(charge) : budget.spend(charge, now)
    const { ask } = attempt
    const again = budget && attempt.where.get(budget)
    if (again !== undefined) {
      // The store charges a counter that stands twice in a step once, and would grant twice.
      attempt.asked[again]!.isTwice = true
      ask.charges[again]!.extra = 0
      const { settled = 0, at = 0 } = ask.charges[again]!
      return ask.charges.push({ ...charge, settled, at }) - 1
    }
    return budget
      ? asking(attempt, { budget, subject }, budget.ask(charge, budget.wanted(charge, now)))
      : ask.charges.push(charge) - 1
  }

  #take(attempt: Attempt, charge: Charge, now: number): void {
    const subject = this.#known.get(charge)
    const budget = budgetOf(subject, charge)
    if (budget.covers(charge, now)) return
    const where = attempt.where.get(budget)
    if (where === undefined) {
      asking(attempt, { budget, subject }, budget.next(charge, now))
      return
    }
    const already = attempt.ask.charges[where]!
    if (attempt.asked[where]?.isTwice) return
    already.extra = Math.max(already.extra ?? 0, budget.lacks(charge, now))
  }

  #receive(attempt: Attempt, answer: Answer): void {
    const { ask } = attempt
    const isFromRedis = this.#isListening && answer.source === 'redis'
    const blocked = new Set(answer.blocks.map((block) => this.#known.get(block)))
    for (const [known, asking] of attempt.asking) {
      attempt.isStale ||= asking.isStale
      this.#known.answered(known, asking, isFromRedis ? blocked.has(known) : undefined)
    }
    for (const [i, asked] of attempt.asked.entries()) {
      const charge = ask.charges[i]!
      const state = answer.states[i]!
      if (!asked) continue
      const { budget, subject } = asked
      budget.pending -= charge.extra ?? 0
      const isWritten =
        isFromRedis && answer.allowed && (state.granted || (charge.cost > 0 && !charge.checkOnly))
      if (!isWritten) this.#unsettle(budget, charge)
      const { granted } = state
      budget.see(state, this.clock())
      if (!granted) continue
      const asking = attempt.asking.get(subject)
      // After a reset there may be nothing to give it back to: it stays charged until its tenth is over.
      if (asking?.isStale) continue
      this.#held.add(budget, granted, isFromRedis && !asking?.isRecalled)
    }
  }

  /** The store has not taken down that something granted before is spent. */
  #unsettle(budget: Budget, { settled = 0, at, ...charge }: Charge): void {
    if (settled === 0) return
    if (at === budget.at) budget.granted += settled
    else this.returns.add({ ...charge, cost: 0, settled, ...(at !== undefined && { at }) })
  }

  #unspend({ from }: Attempt): void {
    for (const where of from) if (typeof where === 'object' && !where.charge.checkOnly) this.putBack(where)
  }
}

/** Lets a budget be filled by a charge of what is asked. Returns its place there. */
function asking({ ask, asked, where }: Attempt, budget: Asked, charge: Charge): number {
  const place = ask.charges.push(charge) - 1
  asked[place] = budget
  where.set(budget.budget, place)
  return place
}

const isHeld = ({ advance, glance }: Charge): boolean => advance !== undefined || glance === true

/** What is held of a counter under this limit. */
function budgetIn({ budgets }: KnownSubject, charge: Charge): Budget | undefined {
  const budget = budgets.get(charge.what)
  return budget && isSameRate(budget.charge.limit, charge.limit) ? budget : undefined
}

/** The same, empty if there is none. One of another limit (the file has changed) is given back when it is idle. */
function budgetOf(subject: KnownSubject, charge: Charge): Budget {
  const before = budgetIn(subject, charge)
  if (before) return before
  const budget = new Budget(charge)
  subject.budgets.set(charge.what, budget)
  return budget
}
