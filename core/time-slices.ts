// Long work in steps: at once where nobody waits yet, in slices where a server has connections to answer.
import { setImmediate } from 'node:timers/promises'

/** Work that yields about every millisecond or sooner. */
export type CooperativeTask<T> = Generator<void, T, void>

export function runAtOnce<T>(work: CooperativeTask<T>): T {
  let step = work.next()
  while (!step.done) step = work.next()
  return step.value
}

/** Lets the event loop go on after every `slice` ms of work. */
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
