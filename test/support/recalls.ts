// Who is refused because of what other workers hold waits some tens of ms for it. On a busy machine it may come later.
import { createRequire } from 'node:module'
import { mock } from 'node:test'
import type { Redis } from 'ioredis'
import { untilHeard } from './heard'

/** What the limiter waits by. */
const timers = createRequire(__filename)('node:timers/promises') as {
  setTimeout(ms: number): Promise<void>
}

/**
 * From now on a short wait of this process lasts until the workers in it have heard what Redis has told them, and have sent
 * what they give back: the same as on a machine that has nothing else to do.
 */
export function waitForRecalls(redis: Redis): void {
  const { setTimeout: sleep } = timers
  mock.method(timers, 'setTimeout', async (ms: number) => {
    if (ms > 50) return sleep(ms)
    await untilHeard(redis)
    // What is given back at once leaves by a timer that was set before this one.
    await sleep(5)
    await untilHeard(redis)
  })
}
