// Refusals are held for a moment and given together: a client that waits for its answer before it comes again is slowed
// down, at no cost to the others.

/** ms between two ticks: what is due is done in portions that keep no other client waiting for long. */
const TICK = 25
/** Held for so many ticks: 200 ms. */
const HELD_FOR = 8
/** Calls that wait at most. Each is a connection, with its file descriptor. */
export const MOST_HELD = 500

/** Calls again and again, `ms` apart. Returns how to end it. */
export type Every = (ms: number, call: () => void) => () => void

/** By a timer. */
export const every: Every = (ms, call) => {
  const timer = setInterval(call, ms)
  return () => clearInterval(timer)
}

/** Calls that wait for their time, all by one timer. Beyond MOST_HELD nothing waits. */
export class Hold {
  /** One list a tick, the oldest first. */
  #waiting: (() => void)[][] = [[]]
  #size = 0
  #stop: (() => void) | undefined

  constructor(private readonly repeat: Every = every) {}

  /** Calls in 200 ms; at once where too many wait already. */
  add(call: () => void): void {
    if (this.#size >= MOST_HELD) {
      call()
      return
    }
    this.#size++
    this.#waiting.at(-1)?.push(call)
    this.#stop ??= this.repeat(TICK, () => this.#tick())
  }

  #tick(): void {
    this.#waiting.push([])
    if (this.#waiting.length <= HELD_FOR) return
    const due = this.#waiting.shift() ?? []
    this.#size -= due.length
    for (const call of due) call()
    if (this.#size > 0) return
    this.#stop?.()
    this.#stop = undefined
  }
}
