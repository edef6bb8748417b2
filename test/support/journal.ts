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

/** As in keys. */
export const today = () => new Date().toISOString().slice(0, 10)
/** The lines about Redis' state that match, oldest first. */
export const told = (haraka: Haraka, what: RegExp): string[] =>
  [...haraka.output().matchAll(/redis: (?:up|down|back)[^\n]*/g)]
    .map(([line]) => line)
    .filter((line) => what.test(line))
