// What is refused only because of what others hold in advance, or because it is held here, is put right.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Redis } from 'ioredis'
import type { Limiter } from '../core/limiter'
import type { Charge } from '../core/limiter/contract'
import { RedisStore } from '../core/limiter/redis-store'
import { WorkerCounts } from '../core/limiter/worker-counts'
import { closeRedis, openRedis } from '../core/redis/connection'
import { leased, standing, Workers } from './support/leased'
import { charge } from './support/limiter-contract'
import { until } from './support/patience'
import { waitForRecalls } from './support/recalls'
import { RedisServer } from './support/redis'

let server: RedisServer
let redis: Redis
const workers = new Workers(() => server)

before(async () => {
  server = await RedisServer.start()
  redis = server.client()
  await redis.ping()
  waitForRecalls(redis)
})
after(async () => {
  await workers.close()
  redis.disconnect()
  await server.stop()
})

// Limits are for a week: what is held ends with a tenth of the window, and none must end in the middle of a test.
const limiters = (count: number, prefix: string, clock?: () => number) => workers.make(count, prefix, clock)
const used = (prefix: string, window: string) => standing(redis, prefix, window)

test('32 workers hold something, then all comes to one: the first refusal is at exactly the limit', async () => {
  const all = await limiters(32, 'exact:')
  const each = leased('1000/7d')
  let through = 0
  for (let round = 0; round < 8; round++)
    for (const { limiter } of all) if ((await limiter.check([each])).allowed) through++
  assert.equal(through, 256)
  const held = await used('exact:', '7d')
  assert.ok(held.leased > 100, `${held.leased} are held in advance`)
  const [{ limiter }] = all
  for (;;) {
    const { allowed } = await limiter.check([each])
    if (!allowed) break
    through++
  }
  assert.equal(through, 1000)
})

test('a block holds at once where it was set', async () => {
  const [{ limiter }] = await limiters(1, 'block:')
  const each = leased('1000/7d')
  for (let i = 0; i < 5; i++) await limiter.check([each])
  const key = { scope: 'ip', subject: '203.0.113.9' }
  await limiter.block(key, 60_000, 'test')
  assert.equal((await limiter.check([each])).allowed, false)
  await limiter.unblock(key)
  assert.equal((await limiter.check([each])).allowed, true)
})

test('many questions at once of one worker do not hold more in advance than one', async () => {
  const [{ limiter }] = await limiters(1, 'burst:')
  const each = leased('100000/7d')
  for (let i = 0; i < 4; i++) await Promise.all(Array.from({ length: 200 }, () => limiter.check([each])))
  const held = await used('burst:', '7d')
  assert.ok(held.used - 800 <= 64, `${held.used - 800} held in advance`)
})

test('a counter that stands twice in one step is granted once', async () => {
  const [{ limiter }] = await limiters(1, 'twice:')
  const each = leased('1000/7d')
  let through = 0
  for (let i = 0; i < 40; i++) {
    const { charged } = await limiter.check([each, { ...each }])
    through += charged.length ? 1 : 0
  }
  const held = await used('twice:', '7d')
  assert.ok(held.used >= through)
  for (let i = 0; i < 2000; i++) if ((await limiter.check([each])).allowed) through++
  assert.ok(through <= 1000, `${through} of 1000`)
})

const messages = (limiter: Limiter, more: Partial<Charge> = {}) =>
  limiter.check([{ ...leased('1000/7d'), ...more }])

test('who was refused because of what a worker held that hears nothing is let through when it gives it back', async () => {
  let now = 0
  const [other] = await limiters(1, 'held:', () => now)
  const connection = openRedis(server.settings)
  await until(() => connection.status === 'ready')
  const holder = new WorkerCounts(
    new RedisStore(connection, { prefix: 'held:', timeout: server.settings.timeout }),
  )
  holder.budgets.listen(true)
  for (let i = 0; i < 100; i++)
    await holder.check({ op: 'check', charges: [leased('1000/7d')], leases: [], by: 'host/9' })
  const before = await used('held:', '7d')
  assert.ok(before.leased > 0)
  await other.limiter.charge([charge('1000/7d', { cost: 1000 - before.used })])
  assert.equal((await messages(other.limiter)).allowed, false)
  await holder.flush()
  now += 5001
  assert.equal((await messages(other.limiter)).allowed, true)
  await holder.close()
  await closeRedis(connection)
})

test('who was refused is let through when what was counted is refunded elsewhere', async () => {
  let now = 0
  const [one, other] = await limiters(2, 'refund:', () => now)
  const all = await one.limiter.check([charge('1000/7d', { cost: 1000, refundable: true })])
  assert.equal(all.allowed, true)
  assert.equal((await messages(other.limiter, { refundable: true })).allowed, false)
  await one.limiter.refund(all)
  now += 5001
  assert.equal((await messages(other.limiter, { refundable: true })).allowed, true)
})

test('a refusal of what nobody gives back is remembered until it may come back', async () => {
  let now = 0
  const [one] = await limiters(1, 'kept:', () => now)
  await one.limiter.charge([charge('1000/7d', { cost: 1000 })])
  assert.equal((await messages(one.limiter)).source, 'redis')
  now += 3_000_000
  assert.equal((await messages(one.limiter)).source, 'remembered')
})
