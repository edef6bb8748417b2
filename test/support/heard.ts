// What Redis tells those who listen comes on a connection of its own, and so before or after the answer to a command.
import { setImmediate as turn } from 'node:timers/promises'
import type { Redis } from 'ioredis'

/** Waits until this process has heard all that Redis has told it so far. */
export async function untilHeard(redis: Redis): Promise<void> {
  // Redis had written it when it answers this; a turn of the event loop reads whatever can be read.
  await redis.ping()
  await turn()
  await turn()
}
