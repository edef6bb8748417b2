// Long work in steps: in one go where no client waits yet, in time slices where a server has connections to answer.
import { setImmediate } from 'node:timers/promises'

/** Work that yields at least about once a millisecond; what it returns is the result. */
export type CooperativeTask<T> = Generator<void, T, void>

/** Does all of it in one go. */
export function runAtOnce<T>(work: CooperativeTask<T>): T {
  let step = work.next()
  while (!step.done) step = work.next()
  return step.value
}

/** The same, but lets the event loop run after every `slice` ms of work. Rejects with what the work throws. */
export async function runInTimeSlices<T>(work: CooperativeTask<T>, slice = 10): Promise<T> {
  for (;;) {
    const end = performance.now() + slice
    do {
      const step = work.next()
      if (step.done) return step.value
    } while (performance.now() < end)
    await setImmediate()
  }
}
