// What fails when during the soak: the same from the same seed.
import { pick, randomFrom } from '../test/support/random'
import type { RedisServer } from '../test/support/redis'
import type { Child } from './child'
import { type Answer, type HopName, type Order, type Trouble, troubles } from './soak-hops'

/** What can be wrong with Redis. Killed, it comes back empty after the trouble; restarted, at once; paused, as it was. */
const redisTroubles = ['killed', 'paused', 'restarted'] as const
type RedisTrouble = (typeof redisTroubles)[number]

/** One trouble, from second `from` to second `until` of the soak. */
export type Event = { from: number; until: number } & (
  | { who: HopName; what: Trouble }
  | { who: 'redis'; what: RedisTrouble }
)

/** How long each is well and in trouble, in seconds: from, to. The internet comes back before DSNs to it are given up. */
const WELL = [5, 30] as const
const TROUBLE: Record<Event['who'], readonly [number, number]> = {
  forward: [3, 40],
  queue: [3, 90],
  lmtp: [3, 40],
  internet: [3, 30],
  redis: [1, 20],
}

/** All that get into trouble. */
export const failing = Object.keys(TROUBLE) as Event['who'][]

/** All troubles of a soak of so many seconds, by when they begin; the last ones end before it does. */
export function troublesOf(seconds: number, seed: number): Event[] {
  const events: Event[] = []
  for (const [index, who] of failing.entries()) {
    const random = randomFrom(seed + index)
    const between = ([from, to]: readonly [number, number]) => from + random() * (to - from)
    for (let at = between(WELL); ; at += between(WELL)) {
      const until = at + between(TROUBLE[who])
      if (until > seconds - 5) break
      const times = { from: at, until }
      if (who === 'redis') events.push({ ...times, who, what: pick(redisTroubles, random) })
      else events.push({ ...times, who, what: pick(troubles, random) })
      at = until
    }
  }
  return events.sort((a, b) => a.from - b.from)
}

/** Brings the troubles about when they are due, and ends them. Resolves when the last one is over. */
export async function bringAbout(
  events: Event[],
  redis: RedisServer,
  hops: Child<Order, Answer>,
): Promise<void> {
  const steps = events.flatMap((event) => [
    { at: event.from, event, begins: true },
    { at: event.until, event, begins: false },
  ])
  steps.sort((a, b) => a.at - b.at)
  const start = performance.now()
  for (const { at, event, begins } of steps) {
    const wait = start + at * 1000 - performance.now()
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait))
    if (event.who === 'redis') await disturb(redis, event.what, begins)
    else await hops.ask({ hop: event.who, trouble: begins ? event.what : 'none' })
  }
}

async function disturb(redis: RedisServer, what: RedisTrouble, begins: boolean): Promise<void> {
  if (what === 'paused') return begins ? redis.hang() : redis.goOn()
  if (begins) await redis.kill()
  if (begins === (what === 'restarted')) await redis.up()
}
