// Time for configurations in force: a clock, and a look at their files each second.

const POLL_EVERY = 1000 // ms

/** What is looked at each second. */
export interface Polled {
  poll(): Promise<void>
  /** Is told what `poll` rejects with. */
  fail(error: Error): void
}

/** Time, and who calls `poll` once a second; tests bring their own. */
export interface Watch {
  /** A clock in ms that is never set. */
  now(): number
  start(polled: Polled): void
}

const all: Polled[] = []

/** The process' own watch: one timer for all configurations, which does not keep the process running. */
export const everySecond: Watch = {
  now: () => performance.now(),
  start(polled) {
    if (all.push(polled) > 1) return
    let busy = false
    const pollAll = async () => {
      if (busy) return
      busy = true
      for (const each of all) await each.poll().catch((error) => each.fail(error))
      busy = false
    }
    setInterval(() => void pollAll(), POLL_EVERY).unref()
  },
}
