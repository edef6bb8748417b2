// The leases that this process holds: kept alive by a heartbeat, given back in batches off the SMTP path.
import { tagOf } from '../redis/keys'
import { LEASE, type Lease, type Store } from './contract'
import type { Returns } from './returns'

/** Released leases are batched for this long (ms), unless one of their slots is wanted sooner. */
const GATHER = 50
/** The slots of a closed connection may serve the same client again for this long (ms), where there are enough. */
const IDLE = 1000

const isSameSlot = (a: Lease, b: Lease): boolean => a.scope === b.scope && a.subject === b.subject

/** Clients with the same name may use each other's slots. */
const nameOf = (leases: Lease[]): string =>
  leases.map(({ scope, subject, limit }) => `${scope} ${subject} ${limit}`).join('\0')

interface Held {
  leases: Lease[]
  /** Less than half of the slots are used: nobody waits for these. */
  isSpare: boolean
}

interface Idle {
  leases: Lease[]
  since: number
}

/** What a question for leases is answered. */
interface Taken {
  allowed: boolean
  /** How many of each slot are used, in the order of the leases that were asked for. */
  slots: { used: number }[]
}

/** How leases that are not used any more are kept for a moment. */
export interface LeasesOptions {
  returns: Returns
  /** False: a slot is given back at once, as nobody can ask for it. */
  mayKeep(): boolean
  /** ms of a monotonic clock. */
  clock?: () => number
  /** ms between two heartbeats. */
  beat?: number
}

/** The slots among the concurrent connections that this process holds. */
export class Leases {
  /** By id of the connection. The leases of one that was here before keep their own id. */
  #held = new Map<string, Held>()
  /** Of closed connections, by name; the newest last. */
  #idle = new Map<string, Idle[]>()
  /** Kept ones that are about to serve another connection. */
  #lent = new Set<Idle>()
  #asking = new Set<string>()
  /** What a store has been asked and has not answered yet. */
  #asked = new Set<Promise<unknown>>()
  /** While the leases move to another store, those who ask wait: there they are not counted yet. */
  #moving: Promise<void> | undefined
  /** Connections that ended while their lease was being taken. */
  #gone = new Set<string>()
  #heartbeat: NodeJS.Timeout

  constructor(
    private store: Store,
    private readonly options: LeasesOptions,
  ) {
    this.#heartbeat = setInterval(() => void this.store.renew(this.held), options.beat ?? LEASE / 3)
    this.#heartbeat.unref()
  }

  /** All leases of this process: those of open connections, and those kept for a moment. */
  get held(): Lease[] {
    const idle = [...this.#idle.values()].flat()
    return [...this.#held.values(), ...idle, ...this.#lent].flatMap(({ leases }) => leases)
  }

  /** From now on `store` is asked, as soon as the old one has answered what it was asked, and the new one knows what is held. */
  moveTo(store: Store): Promise<void> {
    this.store = store
    const answered = Promise.allSettled(this.#asked)
    const moving = answered.then(() => store.renew(this.held)).catch(() => {})
    this.#moving = moving
    return moving.finally(() => {
      if (this.#moving === moving) this.#moving = undefined
    })
  }

  /**
   * Asks for the leases of one connection; they are held if `ask` gives true and the connection is still there. `ask` gets
   * none where those of a closed connection serve.
   */
  async take<T extends Taken>(leases: Lease[], ask: (leases: Lease[]) => Promise<T>): Promise<T> {
    const id = leases[0]?.id
    if (id === undefined) return ask(leases)
    const { returns, mayKeep } = this.options
    // Where a refusal recalls what is on its way back, nothing need be sent before.
    if (!mayKeep() && returns.hasLease((freed) => leases.some((lease) => isSameSlot(freed, lease))))
      void returns.flush()
    this.#asking.add(id)
    let asked: Promise<T> | undefined
    let kept: Idle | undefined
    let wanted: Lease[] = leases
    try {
      while (this.#moving) await this.#moving
      kept = this.#lend(leases)
      if (kept) wanted = []
      asked = ask(wanted)
      this.#asked.add(asked)
      const verdict = await asked
      const isSpare = kept !== undefined || isCalm(leases, verdict)
      const taken: Held = { leases: kept?.leases ?? leases, isSpare }
      if (verdict.allowed && !this.#gone.has(id)) this.#hold(id, taken)
      else if (verdict.allowed || kept) this.#free(taken)
      return verdict
    } finally {
      if (asked) this.#asked.delete(asked)
      if (kept) this.#lent.delete(kept)
      this.#asking.delete(id)
      this.#gone.delete(id)
    }
  }

  /** Gives back what a connection holds, or is about to get. Returns what it held. */
  release(id: string): Lease[] {
    if (this.#asking.has(id)) this.#gone.add(id)
    const held = this.#held.get(id)
    if (!held) return []
    this.#held.delete(id)
    this.#free(held)
    return held.leases
  }

  /** Somebody is refused: what is only kept for a subject is given back. */
  recalled(tag: string): void {
    this.#giveBack(({ leases }) => leases.some(({ scope, subject }) => tagOf(scope, subject) === tag))
  }

  /** To be called several times a second: what was kept long enough is given back. */
  tick(): void {
    const now = this.#now()
    this.#giveBack(({ since }) => now - since >= IDLE)
  }

  /** Gives back everything. */
  async close(): Promise<void> {
    clearInterval(this.#heartbeat)
    for (const id of [...this.#held.keys()]) this.release(id)
    this.endIdle()
    await this.options.returns.flush()
  }

  /** Gives back all that is only kept. */
  endIdle(): void {
    this.#giveBack(() => true)
  }

  #now(): number {
    return this.options.clock?.() ?? performance.now()
  }

  #lend(leases: Lease[]): Idle | undefined {
    if (!this.#idle.size) return undefined
    const name = nameOf(leases)
    const all = this.#idle.get(name)
    const kept = all?.pop()
    if (all?.length === 0) this.#idle.delete(name)
    if (kept) this.#lent.add(kept)
    return kept
  }

  #hold(id: string, { leases, isSpare }: Held): void {
    const before = this.#held.get(id)
    this.#held.set(id, { leases: [...(before?.leases ?? []), ...leases], isSpare: isSpare && !before })
  }

  #free({ leases, isSpare }: Held): void {
    if (!leases.length) return
    if (!isSpare || !this.options.mayKeep()) {
      this.options.returns.addLeases(leases)
      this.options.returns.within(GATHER)
      return
    }
    const name = nameOf(leases)
    const idle = this.#idle.get(name) ?? []
    idle.push({ leases, since: this.#now() })
    this.#idle.set(name, idle)
  }

  #giveBack(is: (idle: Idle) => boolean): void {
    for (const [name, all] of this.#idle) {
      const kept = all.filter((idle) => !is(idle))
      if (kept.length === all.length) continue
      if (kept.length) this.#idle.set(name, kept)
      else this.#idle.delete(name)
      for (const idle of all) if (is(idle)) this.options.returns.addLeases(idle.leases)
    }
  }
}

const isCalm = (leases: Lease[], { slots }: Taken): boolean =>
  leases.every(({ limit }, i) => 2 * ((slots[i]?.used ?? limit) + 1) < limit)
