// What is given back to the store is gathered: one command a second for all of it.
import type { Charge, Lease, Source } from './contract'

/** Charges and leases on their way back. A counter key may stand only once in a step. */
interface Batch {
  charges: Map<string, Charge>
  leases: Lease[]
}

/** What one step gives back. */
export interface Returned {
  charges: Charge[]
  leases: Lease[]
  source: Source
}

const newBatch = (): Batch => ({ charges: new Map(), leases: [] })

/** So many charges and leases are sent at once: a Redis spends about half a millisecond on them. */
const MOST = 100
/** What is given back may wait so long (ms) for more. */
const GATHER = 1000

/** Gathers what is given back. */
export class Returns {
  #batches: Batch[] = [newBatch()]
  #timer: NodeJS.Timeout | undefined
  #due = Number.POSITIVE_INFINITY

  /** `send` must not reject. */
  constructor(private readonly send: (returned: Returned) => Promise<unknown>) {}

  /** What Redis granted: `cost` is left of it, `settled` was granted. */
  add(charge: Charge): void {
    const name = `${charge.scope} ${charge.subject} ${charge.what}`
    const batch = this.#batches.find(({ charges }) => !charges.has(name)) ?? newBatch()
    if (!this.#batches.includes(batch)) this.#batches.push(batch)
    batch.charges.set(name, charge)
    this.#added()
  }

  addLeases(leases: Lease[]): void {
    this.#batches[0]!.leases.push(...leases)
    this.#added()
  }

  #added(): void {
    const { charges, leases } = this.#batches[0]!
    if (charges.size + leases.length >= MOST) void this.flush()
    else this.within(GATHER)
  }

  hasLease(is: (lease: Lease) => boolean): boolean {
    return this.#batches[0]!.leases.some(is)
  }

  /** Sends all within `ms`, at the latest. */
  within(ms: number): void {
    const due = performance.now() + ms
    if (due >= this.#due) return
    clearTimeout(this.#timer)
    this.#due = due
    this.#timer = setTimeout(() => void this.flush(), ms)
  }

  /** Sends all. Resolves when the store has answered. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer)
    this.#due = Number.POSITIVE_INFINITY
    const batches = this.#batches
    this.#batches = [newBatch()]
    const sent = batches.flatMap(({ charges, leases }) =>
      charges.size + leases.length
        ? [this.send({ charges: [...charges.values()], leases, source: 'redis' })]
        : [],
    )
    await Promise.all(sent)
  }
}
