// One search for a host that takes an envelope: which hosts had their turn, and why it ended.
import { type NextHop, printHost } from './address'
import { hopKey } from './hosts'
import { type Congestion, CongestionFailure, HostFailure } from './reply'
import { now } from './route'

const FIRST_PAUSE = 100
const LONGEST_PAUSE = 2_000

/** Ends at its deadline or when `signal` aborts. */
export class Search {
  /** Hosts that had their turn. */
  readonly tried = new Set<string>()
  /** Hosts whose kept connection was dead or spent: theirs must be a new one. */
  readonly stale = new Set<string>()
  #busy = new Set<string>()
  #pause = FIRST_PAUSE
  #failures = new Map<string, string>()
  #congestion: Congestion | undefined
  #failed = false

  constructor(
    /** When it must be over, on the clock of `now()`. */
    public deadline: number,
    readonly signal: AbortSignal,
  ) {}

  /** This host had its turn, and failed. */
  failed(hop: NextHop, error: unknown) {
    this.tried.add(hopKey(hop))
    this.noted(hop, error)
  }

  /** This host takes no more connections now: the others have their turn, then it is asked again. */
  busy(hop: NextHop, error: unknown) {
    this.failed(hop, error)
    this.#busy.add(hopKey(hop))
  }

  /** Keeps the reason for the answer that is given when the search ends without a host. */
  noted(hop: NextHop, error: unknown) {
    if (error instanceof CongestionFailure) this.#congestion = error.congestion
    else this.#failed = true
    this.#failures.set(printHost(hop), error instanceof Error ? error.message : String(error))
  }

  /** Waits a little before the busy hosts are asked again. False when there is none, or no time left. */
  async pause(): Promise<boolean> {
    const ms = Math.min(this.#pause, this.deadline - now())
    if (!this.#busy.size || ms <= 0 || this.signal.aborted) return false
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE)
    await new Promise<void>((resolve) => {
      const end = () => {
        clearTimeout(timer)
        this.signal.removeEventListener('abort', end)
        resolve()
      }
      const timer = setTimeout(end, ms)
      this.signal.addEventListener('abort', end, { once: true })
    })
    for (const key of this.#busy) this.tried.delete(key)
    this.#busy.clear()
    return true
  }

  /** Why it ended without a host. */
  get failure(): HostFailure {
    const text = [...this.#failures].map(([host, why]) => `${host}: ${why}`).join('; ')
    if (this.#congestion && !this.#failed) return new CongestionFailure(text, this.#congestion)
    return new HostFailure(text || 'no host could be tried in time', false)
  }
}
