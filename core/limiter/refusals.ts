// What was refused, remembered in this process: a flood from one subject costs the store nothing.
import { tagOf } from '../redis/keys'
import { type Charge, keysOf, type Lease, type Step } from './contract'
import { Lru } from './lru'
import { isSameRate } from './rate'
import { isLasting, type Refusal } from './result'

/** Subjects; the one that was refused first goes first. */
const CAPACITY = 50_000

/** What others may give back at any moment is asked for again after so many ms. */
const UNSURE = 5000

interface Remembered {
  refusal: Refusal
  /** When the subject may come back, and when the store is asked again: ms of the monotonic clock. */
  back: number
  until: number
}

/** The refusals of one subject: `block`, `concurrency`, or what is counted. */
type OfSubject = Map<string, Remembered>

const nameOf = (refusal: Refusal): string =>
  refusal.kind === 'rate' ? refusal.charge.what : `${refusal.kind} `

const isOver = (refusals: OfSubject, now: number): boolean => {
  for (const { until } of refusals.values()) if (until > now) return false
  return true
}

/** Remembers refusals until the subject may come back. */
export class Refusals {
  #lru = new Lru<OfSubject>(CAPACITY, isOver)

  constructor(private readonly clock: () => number = () => performance.now()) {}

  /**
   * Remembers them for `longest` ms at most. One that has set a block is not remembered: the store's next answer is that
   * block.
   */
  remember(refusals: Refusal[], longest: number): void {
    const now = this.clock()
    for (const refusal of refusals) {
      if (refusal.kind === 'rate' && (refusal.charge.brief || refusal.charge.block)) continue
      const { scope, subject, retryAfter } = refusal
      const tag = tagOf(scope, subject)
      const known = this.#lru.get(tag, now) ?? new Map()
      const most = isLasting(refusal) ? longest : Math.min(longest, UNSURE)
      known.set(nameOf(refusal), {
        refusal,
        back: now + retryAfter,
        until: now + Math.min(retryAfter, most),
      })
      this.#lru.set(tag, known, now)
    }
  }

  /** Why this step is refused without asking, empty if the store must say. */
  find(step: Step): Refusal[] {
    if (!this.#lru.size) return []
    const now = this.clock()
    const blocks = keysOf(step).map(({ scope, subject }) => this.#find(tagOf(scope, subject), 'block ', now))
    const slots = step.leases.map(({ scope, subject }) =>
      this.#find(tagOf(scope, subject), 'concurrency ', now),
    )
    const found = [...blocks, ...slots].flatMap((known) =>
      known ? [{ ...known.refusal, retryAfter: known.back - now }] : [],
    )
    return [...found, ...step.charges.flatMap((charge) => this.#findRate(charge, now))]
  }

  /** A slot came free here. */
  freed({ scope, subject }: Lease): void {
    this.#lru.get(tagOf(scope, subject), this.clock())?.delete('concurrency ')
  }

  /** All of a subject, by its tag. */
  forget(tag: string): void {
    this.#lru.delete(tag)
  }

  /** For a new configuration. */
  clear(): void {
    this.#lru.clear()
  }

  #find(tag: string, name: string, now: number): Remembered | undefined {
    const known = this.#lru.get(tag, now)?.get(name)
    return known && known.until > now ? known : undefined
  }

  #findRate(charge: Charge, now: number): Refusal[] {
    const { scope, subject, what, cost, limit, shadow } = charge
    if (shadow || !limit.windows.length) return []
    const known = this.#find(tagOf(scope, subject), what, now)
    if (known?.refusal.kind !== 'rate') return []
    const { refusal } = known
    // A smaller cost might fit, and another limit might not refuse.
    if (cost < refusal.charge.cost || !isSameRate(limit, refusal.charge.limit)) return []
    const never = limit.windows.some((window) => cost > window.limit)
    return [{ ...refusal, charge, retryAfter: never ? Number.POSITIVE_INFINITY : known.back - now }]
  }
}
