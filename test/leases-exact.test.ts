// Never more than the limit in any stretch of its window, however many workers hold something of it in advance.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Redis } from 'ioredis'
import type { Charge } from '../core/limiter/contract'
import { parseRate } from '../core/limiter/rate'
import type { CheckResult } from '../core/limiter/result'
import { charge } from './support/limiter-contract'
import { pick, randomFrom, seed } from './support/random'
import { RedisServer } from './support/redis'
import { most, type Spend } from './support/spends'
import { type VirtualWorker, World, type WorldOptions } from './support/virtual-workers'

let server: RedisServer
let redis: Redis

before(async () => {
  server = await RedisServer.start()
  redis = server.client()
  await redis.ping()
})
after(async () => {
  redis.disconnect()
  await server.stop()
})

interface Case extends Partial<WorldOptions> {
  limit: string
  count: number
  /** ms of virtual time. */
  lasts: number
  killed?: boolean
  /** Steps of the clock of Redis, at random up to so many ms; less than 0 is back. */
  steps?: number
}

/** Bursts at the edges of tenths, refunds, and pauses, by a given seed. `held`: what was held at each step of the clock. */
async function attack(
  { limit, count, lasts, killed, steps, ...options }: Case,
  random: () => number,
  held: Spend[] = [],
): Promise<World> {
  await redis.flushall()
  const world = new World(redis, { count, random, ...options })
  const rate = parseRate(limit)
  const tenth = Math.min(...rate.windows.map(({ ms }) => ms)) / 10
  const costs = [1, 1, 1, 2, 5]
  const asked = (more: Partial<Charge>) =>
    charge('1/1s', { limit: rate, advance: 64, subject: pick(['a', 'a', 'a', 'b'], random), ...more })
  const through: [VirtualWorker, CheckResult][] = []
  const asks: Promise<unknown>[] = []
  let virtual = 0
  while (virtual < lasts) {
    for (let n = random() < 0.2 ? 40 : Math.floor(random() * 10); n > 0; n--) {
      const worker = pick(world.workers, random)
      const one = asked({ cost: pick(costs, random) })
      const next =
        random() < 0.3
          ? () => [
              { ...one, what: 'recipients', cost: 2 },
              { ...one, cost: 3 },
            ]
          : undefined
      asks.push(worker.check([one], next).then((result) => through.push([worker, result])))
    }
    // After a step back a refund may be taken from another tenth than it was charged to, leases or not.
    if (random() < 0.2 && through.length && !(steps && steps < 0)) {
      const [found] = through.splice(Math.floor(random() * through.length), 1)
      const [worker, result] = found!
      if (worker.isAlive && result.allowed) asks.push(world.refund(worker, result))
    }
    if (killed && random() < 0.02) {
      world.kill(pick(world.workers, random))
      world.addWorker()
    }
    if (steps && random() < 0.05) {
      // What is on its way would be in the log at a time of the other clock.
      if (steps < 0) await world.finish(asks)
      held.push({ at: world.serverNow, steady: world.steadyNow, cost: world.heldSoon })
      world.stepClock(Math.floor(random() * steps))
    }
    // To 6 ms around the next edge of a tenth, or for a moment.
    const rest = tenth - (world.serverNow % tenth)
    const wait = random() < 0.6 ? rest - 3 + Math.floor(random() * 7) : 1 + Math.floor(random() * tenth * 0.7)
    await world.pass(Math.max(1, wait))
    virtual += wait
  }
  return world
}

const CASES: Record<string, Case> = {
  'eight workers': { limit: '200/1s', count: 8, lasts: 5000 },
  'eight workers, 2 s': { limit: '150/2s', count: 8, lasts: 8000 },
  'small limit': { limit: '10/1s', count: 8, lasts: 5000 },
  'several windows': { limit: '150/1s, 400/4s', count: 8, lasts: 9000 },
  '32 workers': { limit: '400/1s', count: 32, lasts: 4000 },
  'slow commands': { limit: '200/1s', count: 8, lasts: 5000, latency: 40 },
  'lost recalls': { limit: '200/1s', count: 8, lasts: 5000, latency: 3, lost: 0.5 },
  'no recalls': { limit: '200/1s', count: 8, lasts: 5000, latency: 3, lost: 1 },
  killed: { limit: '200/1s', count: 8, lasts: 5000, latency: 10, lost: 0.1, killed: true },
}

for (const [name, each] of Object.entries(CASES)) {
  test(`never more than ${each.limit} in any stretch: ${name}`, async (t) => {
    const world = await attack(each, randomFrom(seed))
    t.after(() => world.close())
    for (const [counter, spends] of world.spends)
      for (const { ms, limit } of parseRate(each.limit).windows) {
        const found = most(spends, ms)
        assert.ok(found <= limit, `${counter}: ${found} of ${limit} in ${ms} ms`)
      }
  })
}

for (const steps of [3000, 300, -300, -3000]) {
  test(`a clock of Redis that is set by ${steps} ms lets at most what is held in advance through beside the limit`, async (t) => {
    const each = { limit: '200/1s', count: 8, lasts: 5000, latency: 2, steps }
    const held: Spend[] = []
    const world = await attack(each, randomFrom(seed), held)
    t.after(() => world.close())
    // Set forward, time is what Redis says; set back, its seconds come twice.
    const by = steps > 0 ? 'at' : 'steady'
    const found = Math.max(...[...world.spends.values()].map((spends) => most(spends, 1000, by)))
    // A step matters to the windows that begin before it and to those that end after it.
    const allowed = 200 + most(held, 2000, by)
    assert.ok(found <= allowed, `${found} of ${allowed}`)
  })
}

for (const step of [86_400_000, 10_000, 100, -100, -10_000, -86_400_000]) {
  test(`a worker ends what it holds when it hears of a clock that was set by ${step} ms`, async (t) => {
    await redis.flushall()
    const world = new World(redis, { count: 1, random: randomFrom(seed), latency: 1 })
    t.after(() => world.close())
    const [worker = assert.fail()] = world.workers
    for (let i = 0; i < 25; i++) await world.finish([worker.check([charge('1000/1m', { advance: 64 })])])
    assert.ok(world.held > 0)
    world.stepClock(step)
    await world.finish([worker.check([charge('1000/1m', { subject: 'other' })])])
    assert.equal(world.held, 0)
  })
}
