// Next hops that do not answer: they are not asked for a while, so that a dead one costs no client its 20 seconds.

/** So many questions in a row without an answer make a rest: one may be the fault of that recipient alone. */
const IN_A_ROW = 3
/** The first rest and the longest, ms. */
const FIRST = 5_000
const LONGEST = 60_000

interface State {
  failures: number
  until: number
  rest: number
}

/** Which next hops are not asked now, by the key of their route. */
export class Breaker {
  #states = new Map<string, State>()

  /** `clock`: ms of a monotonic clock. `patience`: how long a question may take at most, ms. */
  constructor(
    private readonly clock: () => number,
    private readonly patience: number,
  ) {}

  /** It is not asked now. */
  rests(key: string): boolean {
    return this.clock() < (this.#states.get(key)?.until ?? 0)
  }

  /** Whether this one may ask. After a rest one question goes first, and the others have to wait for its answer. */
  mayAsk(key: string): boolean {
    if (this.rests(key)) return false
    const state = this.#states.get(key)
    if (state && state.failures >= IN_A_ROW) state.until = this.clock() + this.patience
    return true
  }

  /** It has answered, whatever it said. */
  answered(key: string): void {
    this.#states.delete(key)
  }

  /** It gave no answer. */
  failed(key: string): void {
    const { failures, rest } = this.#states.get(key) ?? { failures: 0, rest: FIRST }
    const isOver = failures + 1 >= IN_A_ROW
    this.#states.set(key, {
      failures: failures + 1,
      until: isOver ? this.clock() + rest : 0,
      rest: isOver ? Math.min(rest * 2, LONGEST) : rest,
    })
  }
}
