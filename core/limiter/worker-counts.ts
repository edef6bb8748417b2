// How this worker counts: from what it holds in advance, where it can, and else by asking the store in use.
import { setTimeout as sleep } from 'node:timers/promises'
import { Budgets } from './budgets'
import type { Charge, Step, Store } from './contract'
import { Leases } from './leases'
import { CHARGED_IN, type CheckResult, chargedBy, EMPTY, resultOf } from './result'
import { type Returned, Returns } from './returns'
import { stepInParts } from './split-step'

/** How often to look for what is not used any more, in ms. */
const TICK = 200
/** Who is refused while others hold something in advance tries again after so many ms, once each. */
const RECALLS = [10, 30]

/** All that one worker holds, and the store behind it. */
export class WorkerCounts {
  readonly budgets: Budgets
  readonly leases: Leases
  readonly #returns = new Returns((returned) => this.#giveBack(returned))
  #ticks: NodeJS.Timeout

  constructor(private store: Store) {
    this.budgets = new Budgets(this.#returns)
    const mayKeep = () => this.budgets.isListening
    this.leases = new Leases(store, { returns: this.#returns, mayKeep })
    this.#ticks = setInterval(() => this.#tick(), TICK).unref()
  }

  /** See `Limiter.check`. */
  async check(step: Step, prefetch?: () => Charge[]): Promise<CheckResult> {
    if (step.leases.length === 0) return this.ask(step, prefetch)
    return this.leases.take(step.leases, (leases) => this.ask({ ...step, leases }, prefetch))
  }

  /** Asks what this process cannot answer by itself; the same store each time, whatever is in use then. */
  async ask(step: Step, prefetch?: () => Charge[], tries = 0, store = this.store): Promise<CheckResult> {
    if (!step.charges.length && !step.leases.length) return EMPTY
    const served = this.budgets.serve(step)
    if (served)
      return this.#of(store, {
        op: step.op,
        allowed: true,
        refusals: [],
        slots: [],
        source: 'redis',
        ...served,
      })
    const attempt = this.budgets.attempt(step, prefetch)
    const wait = RECALLS[tries]
    const recall = step.op === 'check' && this.budgets.isListening && wait !== undefined
    const answer = await stepInParts(store, { ...attempt.ask, recall })
    const whole = this.budgets.learn(attempt, answer)
    if (whole.recalled) {
      await sleep(wait)
      return this.ask(step, prefetch, tries + 1, store)
    }
    const result = resultOf(step, whole, chargedBy(step, whole.at, attempt.from))
    if (attempt.isStale) result.isStale = true
    return this.#of(store, result)
  }

  /** What a check would answer: nothing is charged. */
  async dryRun(step: Step): Promise<CheckResult> {
    if (!step.charges.length && !step.leases.length) return EMPTY
    return resultOf(step, await stepInParts(this.store, step))
  }

  /** Gives back what was charged. `refund`: the step without charges. */
  async refund(result: CheckResult, refund: Step): Promise<void> {
    const { source, charged } = result
    if (source === 'remembered') return
    const isElsewhere = (result[CHARGED_IN] ?? this.store) !== this.store
    // Charged in a Redis that was left since: it cannot be given back there, and must not be given back here.
    if (isElsewhere && source === 'redis') return
    const charges: Charge[] = []
    for (const each of charged) {
      if (each.budget) this.budgets.putBack(each)
      else charges.push({ ...each.charge, at: each.at })
    }
    if (charges.length) await stepInParts(this.store, { ...refund, charges, source })
  }

  /** All that is held in advance, or kept for a moment, goes back to the store. Resolves when it has answered. */
  async flush(): Promise<void> {
    this.budgets.endAll()
    this.leases.endIdle()
    await this.#returns.flush()
  }

  /** Somebody else wants what this worker may hold of a subject. */
  recalled(tag: string): void {
    this.budgets.recalled(tag)
    this.leases.recalled(tag)
    this.#returns.within(0)
  }

  /** From now on another store is asked; see `Leases.moveTo`. */
  moveTo(store: Store): Promise<void> {
    this.store = store
    return this.leases.moveTo(store)
  }

  /** Gives back everything. */
  async close(): Promise<void> {
    clearInterval(this.#ticks)
    this.budgets.endAll()
    await this.leases.close()
  }

  #of(store: Store, result: CheckResult): CheckResult {
    result[CHARGED_IN] = store
    return result
  }

  #tick(): void {
    this.budgets.tick()
    this.leases.tick()
  }

  async #giveBack(returned: Returned): Promise<void> {
    await stepInParts(this.store, { op: 'refund', by: '', ...returned })
  }
}
