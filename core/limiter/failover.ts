// A store that may fail, with another behind it. Nothing waits for the first longer than `timeout`; after a failure
// all goes to the second, and the first is tried in the background until it answers again.
import { printError } from '../redis/errors'
import type { Answer, Block, CounterKey, Lease, Source, Step, Store } from './contract'

/** Between two tries, in ms: the way back may take 2 s together with connecting. */
const PROBE = 500
/** The same for a store that fails again at once: it may cost `timeout` once a second, no more. */
const FLAPPING = 1000
/** A store that is asked for the first time has this long, in ms, before it counts as down. */
export const START = 1000
/** `reset` looks through all keys of a Redis, and nobody but an operator waits for it: this long at most, ms. */
const RESET = 30_000
/** Leases to give back to a store that is away; older ones end by themselves. */
const MISSED = 10_000

/** A store that may fail. */
export interface Primary extends Store {
  readonly source: Source
  /** Resolves where the store takes writes, with a constant piece of work. */
  probe(): Promise<void>
  blame(error: unknown): Blame
}

/** What a failure says: the store is away, only this step failed, or nothing worth a line. */
export type Blame = 'store' | 'step' | 'nobody'

/** How a Failover behaves, and whom it tells. */
export interface FailoverOptions {
  /** What the first store is called in the log, e.g. `redis`. */
  name: string
  /** ms that a step may wait for the first store. */
  timeout: number
  log(line: string): void
  /** The stores have changed places: the leases that this process holds, to be taken along. */
  held(): Lease[]
  /** Where the first store is: logged once, as `redis: up (WHERE)`, when it first answers. Not given: not logged. */
  where?: string
  /** The first store is asked nothing before this has settled; until then the second one counts. */
  after?: Promise<unknown>
}

const nameOf = ({ scope, subject, id }: Lease): string => `${scope} ${subject} ${id}`

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

/** Two stores as one: the first while it answers, else the second. */
export class Failover implements Store {
  #down = false
  #closed = false
  /** The state that was logged last. */
  #told: 'nothing' | 'up' | 'down' = 'nothing'
  #timer: NodeJS.Timeout | undefined
  #missed: Lease[] = []
  /** The second store has granted leases of which the first, although it is up, knows nothing. */
  #strayed = false
  #backAt = Number.NEGATIVE_INFINITY
  #faults = { at: 0, left: 0 }

  constructor(
    private readonly primary: Primary,
    private readonly second: Store,
    private readonly options: FailoverOptions,
  ) {
    if (!options.after) return
    this.#down = true
    void options.after.finally(() => this.#probe(performance.now()))
  }

  /** True while the first store answers. */
  get up(): boolean {
    return !this.#down
  }

  async step(step: Step, now?: number): Promise<Answer> {
    const elsewhere = step.source !== undefined && step.source !== this.primary.source
    if (elsewhere) return this.second.step(step, now)
    // What was charged in a store that is away cannot be given back there, and must not be given back here.
    const instead: Step = step.source ? { ...step, charges: [] } : step
    const takesLeases = step.op !== 'refund' && step.leases.length > 0
    if (this.#down) {
      if (!takesLeases) this.#miss(step.leases)
      return this.second.step(instead, now)
    }
    if (this.#strayed && takesLeases) await this.#takeAlong()
    try {
      const answer = await within(this.options.timeout, this.primary.step(step, now))
      this.#tellUp()
      return answer
    } catch (error) {
      // Whether its leases were granted is unknown; those that are held are taken along on the way back.
      this.#miss(step.leases)
      const blame = error instanceof NoAnswer ? 'store' : this.primary.blame(error)
      if (blame === 'store') this.#fail(error)
      if (blame === 'step') this.#fault(error)
      if (blame !== 'store' && takesLeases) this.#strayed = true
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

  /** Tries the first store beside the SMTP path: its state is known, and logged, also where no step asks it. */
  async check(): Promise<void> {
    if (this.#down || this.#closed) return
    try {
      await within(this.options.timeout, this.primary.probe())
      this.#tellUp()
    } catch (error) {
      if (error instanceof NoAnswer || this.primary.blame(error) === 'store') this.#fail(error)
    }
  }

  /** Ends the tries in the background. Steps that are under way are still answered. */
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

  /** Before a lease is asked for there: what this process holds must not be given to somebody else. */
  async #takeAlong(): Promise<void> {
    await within(this.options.timeout, this.primary.renew(this.options.held())).then(
      () => {
        this.#strayed = false
      },
      () => undefined,
    )
  }

  /** Off the SMTP path: the heartbeat after it mends what is lost here. */
  async #try(done: Promise<void>): Promise<void> {
    await within(this.options.timeout, done).catch(() => {})
  }

  #fail(error: unknown): void {
    if (this.#down || this.#closed) return
    this.#down = true
    this.#tellDown(error)
    this.#probeLater()
    void this.second.renew(this.options.held())
  }

  #probeLater(since?: number): void {
    const wait = performance.now() - this.#backAt < 5 * FLAPPING ? FLAPPING : PROBE
    this.#timer = setTimeout(() => void this.#probe(since), wait)
    this.#timer.unref()
  }

  /** `since`: when the first store was asked first, where it has had no chance to answer before. */
  async #probe(since?: number): Promise<void> {
    if (this.#closed) return
    try {
      await within(this.options.timeout, this.primary.probe())
      // Before any step asks there: what this process holds must not be given to somebody else.
      await this.#try(this.primary.renew(this.options.held()))
    } catch (error) {
      if (this.#closed) return
      if (since === undefined || performance.now() - since > START) this.#tellDown(error)
      this.#probeLater(since)
      return
    }
    if (this.#closed) return
    const held = this.options.held()
    const names = new Set(held.map(nameOf))
    const missed = this.#missed.filter((lease) => !names.has(nameOf(lease)))
    this.#missed = []
    this.#down = false
    this.#backAt = performance.now()
    this.#tellUp()
    await Promise.all([this.#try(this.primary.renew(held)), this.#try(this.primary.release(missed))])
    if (!this.#down) await this.second.release(held)
  }

  #tellUp(): void {
    const { name, where, log } = this.options
    if (this.#told === 'down') log(`${name}: back`)
    else if (this.#told === 'nothing' && where !== undefined) log(`${name}: up (${where})`)
    this.#told = 'up'
  }

  #tellDown(error: unknown): void {
    if (this.#told !== 'down') this.options.log(`${this.options.name}: down (${printError(error)})`)
    this.#told = 'down'
  }

  /** One line a minute, and how many were left out. */
  #fault(error: unknown): void {
    const now = performance.now()
    if (now - this.#faults.at < 60_000 && this.#faults.at) {
      this.#faults.left++
      return
    }
    const left = this.#faults.left ? ` (and ${this.#faults.left} more)` : ''
    this.options.log(`${this.options.name}: one counter failed (${printError(error)})${left}`)
    this.#faults = { at: now, left: 0 }
  }
}
