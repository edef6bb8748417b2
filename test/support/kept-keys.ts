// A Redis that forgets nothing by its own clock, for steps that are given the time by a test.
import type { Redis } from 'ioredis'

/**
 * The same connection, on which the keys of each script are kept for good. A window of a second has a key that ends after
 * 1.1 s by the clock of Redis: where the test's own time passes more slowly, as on a busy machine, it would end before the
 * window is over, and all that was counted with it.
 */
export function keepingKeys(redis: Redis): Redis {
  const client: Redis = Object.create(redis)
  const call = async (name: string, args: (string | number)[]) => {
    const keys = args.slice(2, 2 + Number(args[1])).map(String)
    const [reply] = await Promise.all([redis.call(name, args), ...keys.map((key) => redis.persist(key))])
    return reply
  }
  // ioredis gives `call` several signatures; run() uses this one.
  client.call = call as unknown as Redis['call']
  return client
}
