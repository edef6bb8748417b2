// What was refused, remembered in this process: a flood from one subject costs the store nothing.
import { makeKeys } from '../redis/keys'
import { type Charge, type CounterKey, keysOf, type Lease, type Step } from './contract'
import { Lru } from './lru'
import { printRate } from './rate'
import type { Refusal } from './result'

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
  if (refusal.kind === 'block') return keys.block(refusal.scope, refusal.subject)
  if (refusal.kind === 'concurrency') return keys.concurrent(refusal.scope, refusal.subject)
  return keys.rate(refusal.scope, refusal.subject, refusal.charge.what)
}

/** Remembers refusals until the subject may come back, 5 s at most. */
export class Refusals {
  #lru = new Lru<Remembered>(CAPACITY, ({ until }, now) => until <= now)

  constructor(private readonly clock: () => number = () => performance.now()) {}

  /** One that has set a block is not remembered: the store's next answer is that block. */
  remember(refusals: Refusal[]): void {
    const now = this.clock()
    for (const refusal of refusals) {
      if (refusal.kind === 'rate' && (refusal.charge.brief || refusal.charge.block)) continue
      const { retryAfter } = refusal
      const until = now + Math.min(retryAfter, LONGEST)
      this.#lru.set(nameOf(refusal), { refusal, back: now + retryAfter, until }, now)
    }
  }

  /** Why this step is refused without asking, empty if the store must say. */
  find(step: Step): Refusal[] {
    if (!this.#lru.size) return []
    const now = this.clock()
    const subjects = keysOf(step).map(({ scope, subject }) => keys.block(scope, subject))
    const slots = step.leases.map(({ scope, subject }) => keys.concurrent(scope, subject))
    const found = [...subjects, ...slots].flatMap((name) => {
      const known = this.#lru.get(name, now)
      return known ? [{ ...known.refusal, retryAfter: known.back - now }] : []
    })
    return [...found, ...step.charges.flatMap((charge) => this.#findRate(charge, now))]
  }

  /** A slot came free here. */
  freed({ scope, subject }: Lease): void {
    this.#lru.delete(keys.concurrent(scope, subject))
  }

  /** For `block`, `unblock` and `reset`: all of a counter key. */
  forget({ scope, subject }: CounterKey): void {
    this.#lru.delete(keys.block(scope, subject))
    this.#lru.delete(keys.concurrent(scope, subject))
    const prefix = keys.rate(scope, subject, '')
    for (const name of this.#lru.keys()) if (name.startsWith(prefix)) this.#lru.delete(name)
  }

  /** For a new configuration. */
  clear(): void {
    this.#lru.clear()
  }

  #findRate(charge: Charge, now: number): Refusal[] {
    const { scope, subject, what, cost, limit, shadow } = charge
    if (shadow || !limit.windows.length) return []
    const known = this.#lru.get(keys.rate(scope, subject, what), now)
    if (known?.refusal.kind !== 'rate') return []
    const { refusal } = known
    // A smaller cost might fit, and another limit might not refuse.
    if (cost < refusal.charge.cost || printRate(limit) !== printRate(refusal.charge.limit)) return []
    const never = limit.windows.some((window) => cost > window.limit)
    return [{ ...refusal, charge, retryAfter: never ? Number.POSITIVE_INFINITY : known.back - now }]
  }
}
