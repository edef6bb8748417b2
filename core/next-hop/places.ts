// How many connections of one route may be in use at once, who waits for one, and who must give one back for that.
import { CongestionFailure, HostFailure } from './reply'
import { type FullSettings, stepTime } from './route'
import type { Search } from './search'

/** A transaction that has a place. */
export interface Holder {
  /** Called while it waits for its client: gives its connection back, and with it its place. */
  giveWay(): void
}

interface Waiting {
  deadline: number
  come: () => void
}

/**
 * The places of one route: taken for a transaction, whether its session is new or from the pool. Fair by deadline, and
 * taken back from clients who idle.
 */
export class Places {
  #taken = 0
  #waiting: Waiting[] = []
  /** Those that wait for their client, with the time since when, the longest first. */
  #idling = new Map<Holder, number>()
  #reclaiming: NodeJS.Timeout | undefined
  #limitEnds: NodeJS.Timeout | undefined
  #allowed = Infinity
  #allowedUntil = 0

  constructor(
    readonly size: number,
    readonly settings: Pick<FullSettings, 'grace' | 'limitMemory' | 'clock'>,
  ) {}

  /** How many there are: as the operator wrote, or as few as the host allowed not long ago. */
  get capacity(): number {
    return this.isLimited ? Math.max(1, Math.min(this.size, this.#allowed)) : this.size
  }

  /** The host refused a connection not long ago. */
  get isLimited(): boolean {
    return this.settings.clock() < this.#allowedUntil
  }

  get taken(): number {
    return this.#taken
  }

  /** Somebody waits for a place. */
  get awaited(): boolean {
    return this.#waiting.length > 0
  }

  /**
   * Takes a place, as soon as there is one: of those who wait the one with the nearest deadline comes first, so that a
   * client goes before the queue, which has time. Rejects with CongestionFailure at the deadline or when given up.
   */
  async take({ deadline, signal }: Search): Promise<void> {
    if (this.#taken < this.capacity) {
      this.#taken++
      return
    }
    await new Promise<void>((resolve, reject) => {
      const end = (settle: () => void) => {
        clearTimeout(timer)
        signal.removeEventListener('abort', stop)
        this.#waiting = this.#waiting.filter((waiting) => waiting !== place)
        settle()
      }
      const refuse = () => end(() => reject(this.#full()))
      const stop = () => end(() => reject(new HostFailure('given up', false)))
      const timer = setTimeout(refuse, stepTime(Infinity, deadline))
      const place = { deadline, come: () => end(resolve) }
      signal.addEventListener('abort', stop, { once: true })
      this.#waiting.push(place)
      if (signal.aborted) stop()
      else this.#reclaim()
    })
    // Taken in its name by #admit.
  }

  /** Gives a place back. */
  free() {
    this.#taken--
    this.#admit()
  }

  /** Gives a place back and waits for another one. Rejects like `take`, and holds a place in any case. */
  async exchange(search: Search): Promise<void> {
    this.free()
    try {
      await this.take(search)
    } catch (error) {
      this.#taken++
      throw error
    }
  }

  /** This one waits for its client now: its place may be taken back, the longest idle first. */
  idles(holder: Holder) {
    this.#idling.set(holder, this.settings.clock())
    this.#reclaim()
  }

  /** This one waits no longer, or has no place any more. */
  works(holder: Holder) {
    this.#idling.delete(holder)
  }

  /** The host has refused a connection when so many were open. */
  limit(connections: number) {
    this.#allowed = connections
    this.#allowedUntil = this.settings.clock() + this.settings.limitMemory
    clearTimeout(this.#limitEnds)
    this.#limitEnds = setTimeout(() => this.#admit(), this.settings.limitMemory).unref()
  }

  #full(): CongestionFailure {
    return this.isLimited
      ? new CongestionFailure(`no more than ${this.capacity} connections were allowed`, 'no more taken')
      : new CongestionFailure(
          `all connections of this worker are in use (connections = ${this.size})`,
          'all in use',
        )
  }

  #admit() {
    while (this.#waiting.length && this.#taken < this.capacity) {
      const next = this.#waiting.reduce((first, other) => (other.deadline < first.deadline ? other : first))
      this.#taken++
      next.come()
    }
    this.#reclaim()
  }

  /** As many of those that idle give way as wait; none that idles for less than `grace`. */
  #reclaim() {
    clearTimeout(this.#reclaiming)
    const { clock, grace } = this.settings
    for (const [holder, since] of this.#idling) {
      if (!this.#waiting.length) return
      const left = since + grace - clock()
      if (left > 0) {
        this.#reclaiming = setTimeout(() => this.#reclaim(), left).unref()
        return
      }
      this.#idling.delete(holder)
      holder.giveWay()
    }
  }
}
