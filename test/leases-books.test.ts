// What Redis holds of a counter is what got through and what workers still hold, whatever has happened between them.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Redis } from 'ioredis'
import type { Charge } from '../core/limiter/contract'
import type { CheckResult } from '../core/limiter/result'
import { leased } from './support/leased'
import { pick, randomFrom, seed } from './support/random'
import { RedisServer } from './support/redis'
import { names, type VirtualWorker, World, type WorldOptions } from './support/virtual-workers'

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

const LIMIT = '400/1h, 900/1d'
const counterOf = (subject: string, what: string) => leased(LIMIT, { subject, what })
const COUNTERS = ['a', 'b'].flatMap((subject) =>
  ['messages', 'recipients'].map((what) => counterOf(subject, what)),
)

/** What Redis holds, and what that must be made of. */
async function assertBooks(world: World, when: string): Promise<void> {
  for (const { scope, subject, what } of COUNTERS) {
    const hash = await redis.hgetall(names.rate(scope, subject, what))
    const log = world.spends.get(`{${scope}:${subject}} ${what}`) ?? []
    const through = log.reduce((sum, { cost }) => sum + cost, 0)
    let [left, granted] = [0, 0]
    for (const [budget] of world.budgets) {
      if (budget.charge.subject !== subject || budget.charge.what !== what) continue
      left += budget.left
      granted += budget.granted
    }
    for (const window of ['1h', '1d']) {
      const [used = 0, ahead = 0] = [hash[`${window}.used`], hash[`${window}.leased`]].map(Number)
      assert.equal(
        (used || 0) - left,
        through,
        `${when}: ${subject} ${what} ${window}: ${used} used, ${left} left`,
      )
      assert.equal(ahead || 0, granted, `${when}: ${subject} ${what} ${window}: leased`)
    }
  }
}

/** Workers look for what is not used so often, ms: nothing new is given back between two of these looks. */
const TICK = 200

/** What no worker holds any more is on its way back: a recall of something else sends it at once. */
async function sendBack(world: World): Promise<void> {
  await world.pass(TICK + 5 - (world.serverNow % TICK))
  for (const { counts } of world.workers) counts.recalled('{ip:nobody}')
  await world.pass(100)
}

/** Checks of several counters at once, prefetches, refunds, recalls, idle moments, pauses within one tenth of an hour. */
async function live(world: World, random: () => number): Promise<void> {
  const through: [VirtualWorker, CheckResult][] = []
  for (let round = 0; round < 60; round++) {
    const asks: Promise<unknown>[] = []
    for (let n = Math.floor(random() * 14); n > 0; n--) {
      const worker = pick(world.workers, random)
      const charges: Charge[] = COUNTERS.filter(() => random() < 0.5).map((each) => ({
        ...each,
        cost: pick([1, 1, 2, 5, 40], random),
        checkOnly: random() < 0.1,
      }))
      if (!charges.length) continue
      const next = random() < 0.4 ? () => [{ ...pick(COUNTERS, random), cost: 3 }] : undefined
      asks.push(worker.check(charges, next).then((result) => through.push([worker, result])))
    }
    if (random() < 0.3 && through.length) {
      const [[worker, result] = assert.fail()] = through.splice(Math.floor(random() * through.length), 1)
      asks.push(world.refund(worker, result))
    }
    if (random() < 0.1) pick(world.workers, random).counts.recalled(pick(['{ip:a}', '{ip:b}'], random))
    await world.finish(asks)
    await world.pass(Math.floor(random() * (random() < 0.2 ? 2500 : 30)), 5)
    if (round % 12) continue
    await sendBack(world)
    await assertBooks(world, `round ${round}`)
  }
  await world.flush()
  await sendBack(world)
  await assertBooks(world, 'the end')
  for (const { left, granted } of world.budgets.keys()) assert.deepEqual([left, granted], [0, 0])
}

const CASES: Record<string, Partial<WorldOptions>> = {
  'at once': { count: 4 },
  'with slow commands': { count: 8, latency: 30 },
  'with lost recalls': { count: 8, latency: 5, lost: 0.5 },
}

for (const [name, options] of Object.entries(CASES)) {
  for (const run of [1, 2]) {
    test(`what Redis holds adds up with what workers hold, ${name}, ${run}`, async (t) => {
      const random = randomFrom(seed + run)
      await redis.flushall()
      const world = new World(redis, { count: 8, random, ...options })
      t.after(() => world.close())
      await live(world, random)
    })
  }
}

test('what a killed worker held stays charged, and nothing else', async (t) => {
  const random = randomFrom(seed)
  await redis.flushall()
  const world = new World(redis, { count: 4, random, latency: 3 })
  t.after(() => world.close())
  const each = counterOf('a', 'messages')
  for (let i = 0; i < 60; i++) await world.finish([pick(world.workers, random).check([each])])
  const [victim = assert.fail()] = world.workers
  const held = [...world.budgets].reduce((sum, [{ left }, worker]) => sum + (worker === victim ? left : 0), 0)
  assert.ok(held > 0)
  world.kill(victim)
  await world.flush()
  const used = Number(await redis.hget(names.rate('ip', 'a', 'messages'), '1h.used'))
  assert.equal(used, 60 + held)
})
