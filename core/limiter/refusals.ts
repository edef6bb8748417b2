// What was refused, remembered in this process: a flood from one subject costs the store nothing.
import { makeKeys } from '../keys'
import { printRate } from '../rate'
import { type Lease, type Step, type Subject, subjectsOf } from './contract'
import { Lru } from './lru'
import type { Refusal } from './verdict'

/** The store is asked again after so many ms at the latest: so `unblock` and `reset` reach every worker. */
const LONGEST = 5000
const CAPACITY = 10_000

interface Remembered {
  refusal: Refusal
  /** When the subject may come back, and when the store is asked again: ms of the monotonic clock. */
  back: number
  until: number
}

const keys = makeKeys('')

const nameOf = (refusal: Refusal): string => {
  if (refusal.kind === 'block') return keys.block(refusal.whom, refusal.subject)
  if (refusal.kind === 'concurrency') return keys.concurrent(refusal.whom, refusal.subject)
  return keys.rate(refusal.whom, refusal.subject, refusal.charge.what)
}

export class Refusals {
  #lru = new Lru<Remembered>(CAPACITY, ({ until }, now) => until <= now)

  constructor(private readonly clock: () => number = () => performance.now()) {}

  remember(refusals: Refusal[]): void {
    const now = this.clock()
    for (const refusal of refusals) {
      const { retryAfter } = refusal
      const until = now + Math.min(retryAfter, LONGEST)
      this.#lru.set(nameOf(refusal), { refusal, back: now + retryAfter, until }, now)
    }
  }

  /** Why this step is refused without asking, empty if the store must say. */
  find(step: Step): Refusal[] {
    if (!this.#lru.size) return []
    const now = this.clock()
    const found = subjectsOf(step).map(({ whom, subject }) => this.#lru.get(keys.block(whom, subject), now))
    for (const { whom, subject, what, cost, limit, shadow } of step.charges) {
      if (shadow || !limit.windows.length) continue
      const known = this.#lru.get(keys.rate(whom, subject, what), now)
      if (known?.refusal.kind !== 'rate') continue
      const { charge } = known.refusal
      // A smaller cost might fit, and another limit might not refuse.
      if (cost >= charge.cost && printRate(limit) === printRate(charge.limit)) found.push(known)
    }
    for (const lease of step.leases)
      found.push(this.#lru.get(keys.concurrent(lease.whom, lease.subject), now))
    return found.flatMap((known) => (known ? [{ ...known.refusal, retryAfter: known.back - now }] : []))
  }

  /** A slot came free here. */
  freed({ whom, subject }: Lease): void {
    this.#lru.delete(keys.concurrent(whom, subject))
  }

  /** For `unblock` and `reset`: all of a subject. */
  forget({ whom, subject }: Subject): void {
    this.#lru.delete(keys.block(whom, subject))
    const prefix = keys.rate(whom, subject, '')
    for (const name of this.#lru.keys()) if (name.startsWith(prefix)) this.#lru.delete(name)
  }

  /** For a new configuration. */
  clear(): void {
    this.#lru.clear()
  }
}
