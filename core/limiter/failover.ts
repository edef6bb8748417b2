// A store that may fail, with another behind it. Nothing waits for the first longer than `timeout`; after a failure
// all goes to the second, and the first is tried in the background until it answers again.
import type { Answer, Block, CounterKey, Lease, Source, Step, Store } from './contract'

/** Between two tries, in ms: the way back may take 2 s together with connecting. */
const PROBE = 500
/** The same for a store that fails again at once: it may cost `timeout` once a second, no more. */
const FLAPPING = 1000
/** `reset` looks through all keys of a Redis, and nobody but an operator waits for it: this long at most, ms. */
const RESET = 30_000
/** Leases to give back to a store that is away; older ones end by themselves. */
const MISSED = 10_000

export interface Primary extends Store {
  readonly source: Source
  /** Succeeds when a step like this one would. */
  probe(step: Step): Promise<void>
  blame(error: unknown): Blame
}

/** What a failure says: the store is away, only this step failed, or nothing worth a line. */
export type Blame = 'store' | 'step' | 'nobody'

export interface FailoverOptions {
  /** What the first store is called in the log, e.g. `redis`. */
  name: string
  /** ms that a step may wait for the first store. */
  timeout: number
  log(line: string): void
  /** The stores have changed places: the leases that this process holds, to be taken along. */
  held(): Lease[]
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

class NoAnswer extends Error {}

/** The promise's value, or an error after `ms`. */
export function within<T>(ms: number, promise: Promise<T>): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const refuse = () => reject(new NoAnswer(`no answer within ${ms} ms`))
    // After a stall of this process the answer may lie in the socket already: it is read before setImmediate.
    const timer = setTimeout(() => setImmediate(refuse), ms)
    promise.then(
      (value) => {
        clearTimeout(timer)
        resolve(value)
      },
      (error) => {
        clearTimeout(timer)
        reject(error)
      },
    )
  })
}

export class Failover implements Store {
  #down = false
  #closed = false
  #timer: NodeJS.Timeout | undefined
  #missed: Lease[] = []
  #backAt = Number.NEGATIVE_INFINITY
  #faults = { at: 0, left: 0 }

  constructor(
    private readonly primary: Primary,
    private readonly second: Store,
    private readonly options: FailoverOptions,
  ) {}

  /** True while the first store answers. */
  get up(): boolean {
    return !this.#down
  }

  async step(step: Step, now?: number): Promise<Answer> {
    const elsewhere = step.source !== undefined && step.source !== this.primary.source
    if (elsewhere) return this.second.step(step, now)
    // What was charged in a store that is away cannot be given back there, and must not be given back here.
    const instead: Step = step.source ? { ...step, op: 'dry-run' } : step
    if (this.#down) return this.second.step(instead, now)
    try {
      return await within(this.options.timeout, this.primary.step(step, now))
    } catch (error) {
      // Whether its leases were granted is unknown; those that are held are taken along on the way back.
      this.#miss(step.leases)
      const blame = error instanceof NoAnswer ? 'store' : this.primary.blame(error)
      if (blame === 'store') this.#fail(error, step)
      if (blame === 'step') this.#fault(error)
      return this.second.step(instead, now)
    }
  }

  async renew(leases: Lease[], now?: number): Promise<void> {
    if (this.#down) return this.second.renew(leases, now)
    await this.#try(this.primary.renew(leases, now))
  }

  async release(leases: Lease[]): Promise<void> {
    if (!this.#down) return this.#try(this.primary.release(leases))
    this.#miss(leases)
    await this.second.release(leases)
  }

  /** Both stores are told; it counts when the one in use has done it. */
  async block(block: Block, now?: number): Promise<void> {
    await this.#both((store) => store.block(block, now))
  }

  async unblock(subject: CounterKey): Promise<void> {
    await this.#both((store) => store.unblock(subject))
  }

  async reset(subject: CounterKey): Promise<void> {
    await this.#both((store) => store.reset(subject), RESET)
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
  }

  async #both(tell: (store: Store) => Promise<void>, ms = this.options.timeout): Promise<void> {
    const second = tell(this.second)
    if (this.#down) return second
    void second.catch(() => {})
    await within(ms, tell(this.primary))
  }

  #miss(leases: Lease[]): void {
    this.#missed.push(...leases)
    if (this.#missed.length > MISSED) this.#missed.splice(0, this.#missed.length - MISSED)
  }

  /** Off the SMTP path: the heartbeat after it mends what is lost here. */
  async #try(done: Promise<void>): Promise<void> {
    await within(this.options.timeout, done).catch(() => {})
  }

  #fail(error: unknown, step: Step): void {
    if (this.#down || this.#closed) return
    this.#down = true
    this.options.log(`${this.options.name}: down (${messageOf(error)})`)
    this.#probeLater(step)
    void this.second.renew(this.options.held())
  }

  #probeLater(step: Step): void {
    const wait = performance.now() - this.#backAt < 5 * FLAPPING ? FLAPPING : PROBE
    this.#timer = setTimeout(() => void this.#probe(step), wait)
    this.#timer.unref()
  }

  async #probe(step: Step): Promise<void> {
    try {
      await within(this.options.timeout, this.primary.probe(step))
    } catch {
      if (!this.#closed) this.#probeLater(step)
      return
    }
    if (this.#closed) return
    const missed = this.#missed
    this.#missed = []
    this.#down = false
    this.#backAt = performance.now()
    this.options.log(`${this.options.name}: back`)
    const held = this.options.held()
    await this.#try(this.primary.release(missed))
    await this.#try(this.primary.renew(held))
    await this.second.release(held)
  }

  /** One line a minute, and how many were left out. */
  #fault(error: unknown): void {
    const now = performance.now()
    if (now - this.#faults.at < 60_000 && this.#faults.at) {
      this.#faults.left++
      return
    }
    const left = this.#faults.left ? ` (and ${this.#faults.left} more)` : ''
    this.options.log(`${this.options.name}: one counter failed (${messageOf(error)})${left}`)
    this.#faults = { at: now, left: 0 }
  }
}
