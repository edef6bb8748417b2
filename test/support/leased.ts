// Limiters of several workers that listen to one Redis, and how a counter of theirs stands there.
import type { Redis } from 'ioredis'
import { makeLimiter, untilRedis, type Watched } from './limiter'
import { charge } from './limiter-contract'
import { until } from './patience'
import type { RedisServer } from './redis'

/** A charge of which workers may take something in advance. */
export const leased = (limit: string, more = {}) => charge(limit, { advance: 64, ...more })

/** Waits until they hear all that Redis says. */
export const untilListening = (...all: Watched[]): Promise<void> =>
  until(() => all.every(({ limiter }) => limiter.remembersFor === Number.POSITIVE_INFINITY))

/** Makes limiters and closes them. */
export class Workers {
  #made: Watched[] = []

  constructor(private readonly server: () => RedisServer) {}

  /** Each test asks for at most as many as it makes. */
  async make(count: number, prefix: string, clock?: () => number): Promise<[Watched, Watched, Watched]> {
    const settings = { ...this.server().settings, prefix }
    const some = Array.from({ length: count }, (_, i) => makeLimiter(settings, `host/${i}`, clock))
    this.#made.push(...some)
    await Promise.all(some.map((each) => untilRedis(each)))
    await untilListening(...some)
    return some as [Watched, Watched, Watched]
  }

  async close(): Promise<void> {
    await Promise.all(this.#made.map(({ limiter }) => limiter.close()))
  }
}

/** What Redis holds of the usual counter in one window. */
export async function standing(redis: Redis, prefix: string, window: string) {
  const key = `${prefix}rate:{ip:203.0.113.9}:messages`
  const [used, ahead] = await redis.hmget(key, `${window}.used`, `${window}.leased`)
  return { used: Number(used), leased: Number(ahead) }
}
