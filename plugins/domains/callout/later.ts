// Questions that a next hop deferred, asked again by ourselves: a greylisting one takes the second one, and the client
// that comes back then finds the recipient known.

/** When a deferred question is asked again, ms after the time before. */
const PAUSES = [60_000, 120_000, 240_000, 480_000]
/** Recipients that wait in this process; a flood of further ones is not asked again. */
const MOST = 100

/** The recipients to be asked about again. */
export class Later {
  #timers = new Map<string, NodeJS.Timeout>()

  constructor(
    private readonly pauses: readonly number[] = PAUSES,
    private readonly most = MOST,
  ) {}

  /** Calls `ask` after the first pause, and after the next ones until it resolves to true. Keeps no process alive. */
  again(name: string, ask: () => Promise<boolean>, turn = 0): void {
    const pause = this.pauses[turn]
    if (pause === undefined || this.#timers.has(name) || this.#timers.size >= this.most) return
    const due = async () => {
      const isOver = await ask().catch(() => true)
      this.#timers.delete(name)
      if (!isOver) this.again(name, ask, turn + 1)
    }
    this.#timers.set(name, setTimeout(() => void due(), pause).unref())
  }

  /** Ends all of them. */
  close(): void {
    for (const timer of this.#timers.values()) clearTimeout(timer)
    this.#timers.clear()
  }
}
