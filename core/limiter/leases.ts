// The leases that this process holds: kept alive by a heartbeat, given back in batches off the SMTP path.
import { LEASE, type Lease, type Store } from './contract'

/** Released leases are batched for this long (ms), unless one of their slots is wanted sooner. */
const GATHER = 50

const isSameSlot = (a: Lease, b: Lease): boolean => a.scope === b.scope && a.subject === b.subject

/** The slots among the concurrent connections that this process holds. */
export class Leases {
  /** By id. */
  #held = new Map<string, Lease[]>()
  #asking = new Set<string>()
  /** What a store has been asked and has not answered yet. */
  #asked = new Set<Promise<unknown>>()
  /** While the leases move to another store, those who ask wait: there they are not counted yet. */
  #moving: Promise<void> | undefined
  /** Connections that ended while their lease was being taken. */
  #gone = new Set<string>()
  #freed: Lease[] = []
  #timer: NodeJS.Timeout | undefined
  #heartbeat: NodeJS.Timeout

  /** `beat`: ms between two heartbeats. */
  constructor(
    private store: Store,
    beat = LEASE / 3,
  ) {
    this.#heartbeat = setInterval(() => void this.store.renew(this.held), beat)
    this.#heartbeat.unref()
  }

  /** All leases of this process' open connections. */
  get held(): Lease[] {
    return [...this.#held.values()].flat()
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

  /** Asks for the leases of one connection; they are held if `ask` gives true and the connection is still there. */
  async take<T extends { allowed: boolean }>(leases: Lease[], ask: () => Promise<T>): Promise<T> {
    const id = leases[0]?.id
    if (id === undefined) return ask()
    if (this.#freed.some((freed) => leases.some((lease) => isSameSlot(freed, lease)))) void this.flush()
    this.#asking.add(id)
    let asked: Promise<T> | undefined
    try {
      while (this.#moving) await this.#moving
      asked = ask()
      this.#asked.add(asked)
      const verdict = await asked
      if (verdict.allowed && this.#gone.has(id)) this.#free(leases)
      else if (verdict.allowed) this.#held.set(id, [...(this.#held.get(id) ?? []), ...leases])
      return verdict
    } finally {
      if (asked) this.#asked.delete(asked)
      this.#asking.delete(id)
      this.#gone.delete(id)
    }
  }

  /** Gives back what a connection holds, or is about to get. Returns what it held. */
  release(id: string): Lease[] {
    if (this.#asking.has(id)) this.#gone.add(id)
    const leases = this.#held.get(id) ?? []
    this.#held.delete(id)
    this.#free(leases)
    return leases
  }

  async flush(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const freed = this.#freed
    this.#freed = []
    if (freed.length) await this.store.release(freed)
  }

  /** Gives back everything. */
  async close(): Promise<void> {
    clearInterval(this.#heartbeat)
    for (const id of [...this.#held.keys()]) this.release(id)
    await this.flush()
  }

  #free(leases: Lease[]): void {
    if (!leases.length) return
    this.#freed.push(...leases)
    this.#timer ??= setTimeout(() => void this.flush(), GATHER)
  }
}
