// A Haraka beside a Redis of its own, both ended with the test, whatever fails and when.
import type { TestContext } from 'node:test'
import { type Haraka, type HarakaOptions, startHaraka } from './haraka'
import { redisIni } from './limits'
import { RedisServer } from './redis'

/** Starts both; the prefix is `mx:`. `args` are for redis-server. */
export async function begin(t: TestContext, options: HarakaOptions, ...args: string[]) {
  const redis = await RedisServer.start(...args)
  t.after(() => redis.stop())
  const files = { 'relay-guard/redis.ini': redisIni(redis, 'prefix = mx:\n'), ...options.files }
  const haraka = await startHaraka({ ...options, files })
  t.after(() => haraka.stop())
  const run = async (command: string, ...rest: (string | number)[]) => redis.run(command, ...rest)
  return { redis, haraka, run }
}

/**
 * What one process has told of Redis' state: `up`, `down`, `back`, oldest first. On a busy machine a connection may take
 * longer than the second after which Redis counts as down: told of as down and back at once, which is up here, too.
 */
export function told(haraka: Haraka): string[] {
  const all = [...haraka.output().matchAll(/redis: (up|down|back)/g)].map(([, state = '']) => state)
  return all[0] === 'down' && all[1] === 'back' ? ['up', ...all.slice(2)] : all
}

/** In how many processes Redis has been reached. */
export const reachedIn = (haraka: Haraka): number => haraka.output().match(/redis: (up|back)/g)?.length ?? 0

/** How often this outcome stands in the statistics, of whatever day: the test may run at midnight (UTC). */
export async function counted({ redis }: { redis: RedisServer }, outcome: string): Promise<number> {
  const days = [await redis.run('KEYS', 'mx:stats:*')].flat()
  const counts = await Promise.all(days.map((day) => redis.run('HGET', `${day}`, outcome)))
  return counts.reduce<number>((sum, count) => sum + Number(count), 0)
}
