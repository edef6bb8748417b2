// Repeated calls that pass by hand in place of time.
import type { Every } from '../../core/haraka/hold'

/** A timer for tests: nothing is called until `pass`. */
export function ticksByHand() {
  const calls = new Set<() => void>()
  const every: Every = (_ms, call) => {
    calls.add(call)
    return () => void calls.delete(call)
  }
  return {
    every,
    /** How many timers run. */
    get running(): number {
      return calls.size
    },
    /** Lets each timer that runs call so many times. */
    pass(times: number): void {
      for (let n = 0; n < times; n++) for (const call of [...calls]) call()
    },
  }
}
