import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Redis } from 'ioredis'
import type { Charge, Lease, Step, Store } from '../core/limiter/contract'
import { MemoryStore } from '../core/limiter/memory-store'
import { RedisStore } from '../core/limiter/redis-store'
import { closeRedis, openRedis } from '../core/redis/connection'
import { keepingKeys } from './support/kept-keys'
import { charge, lease, START, step } from './support/limiter-contract'
import { until } from './support/patience'
import { fc } from './support/random'
import { RedisServer } from './support/redis'

let server: RedisServer
let client: ReturnType<typeof openRedis>

before(async () => {
  server = await RedisServer.start()
  client = openRedis(server.settings)
  await until(() => client.status === 'ready')
})
after(async () => {
  await closeRedis(client)
  await server.stop()
})

const anyCharge: fc.Arbitrary<Charge> = fc
  .record({
    subject: fc.constantFrom('a', 'b'),
    what: fc.constantFrom('messages', 'bytes'),
    limit: fc.constantFrom('5/1s', '9/1m', '4/1m, 12/1h', '3000000000/1h', '1/1s, 7/1m, 30/1d'),
    cost: fc.oneof(fc.integer({ min: 0, max: 4 }), fc.constant(1_000_000_007)),
    shadow: fc.boolean(),
    checkOnly: fc.boolean(),
    block: fc.constantFrom(0, 0, 0, 700, 60_000),
  })
  .map(({ limit, ...more }) => charge(limit, more))

const anyLease: fc.Arbitrary<Lease> = fc
  .record({ subject: fc.constantFrom('a', 'b'), id: fc.constantFrom('1', '2', '3', '4') })
  .map(({ id, subject }) => lease(id, 2, { subject }))

const anyMove = fc.record({
  op: fc.constantFrom<Step['op']>('check', 'check', 'check', 'charge', 'refund', 'dry-run'),
  charges: fc.array(anyCharge, { maxLength: 3 }),
  leases: fc.array(anyLease, { maxLength: 1 }),
  wait: fc.constantFrom(0, 1, 37, 100, 999, 6000, 30_000, 400_000),
  ago: fc.constantFrom(0, 100, 7000),
})

test('memory and Redis give equal answers, step by step, whatever is asked', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(anyMove, { minLength: 1, maxLength: 40 }), async (moves) => {
      await client.flushall()
      const memory = new MemoryStore()
      const redis = new RedisStore(keepingKeys(client as Redis), { prefix: 'test:', timeout: 250 })
      let now = START
      for (const { op, charges, leases, wait, ago } of moves) {
        now += wait
        const next = step(charges, { op, leases: op === 'check' ? leases : [], at: now - ago })
        if (!next.charges.length && !next.leases.length) continue
        const [a, b] = [await memory.step(next, now), await redis.step(next, now)]
        assert.deepEqual({ ...b, source: '' }, { ...a, source: '' })
      }
    }),
    { numRuns: 100 },
  )
})

/** What gets through, as times and costs, when `next` says how long to wait and what to ask for. */
async function attack(
  store: Store,
  limit: string,
  tries: number,
  next: (i: number) => [wait: number, cost: number],
) {
  const through: [number, number][] = []
  let now = START + 12_345
  for (let i = 0; i < tries; i++) {
    const [wait, cost] = next(i)
    now += wait
    const { allowed } = await store.step(step([charge(limit, { cost })]), now)
    if (allowed) through.push([now, cost])
  }
  return through
}

/** The most that got through in any stretch of `ms`. */
function most(through: [number, number][], ms: number): number {
  let [largest, sum, first] = [0, 0, 0]
  for (const [at, cost] of through) {
    sum += cost
    while (through[first]![0] <= at - ms) sum -= through[first++]![1]
    largest = Math.max(largest, sum)
  }
  return largest
}

test('no timing gets more than the limit through in any stretch of the window', async () => {
  const wait = fc.oneof(
    fc.constantFrom(0, 1, 5999, 6000, 6001, 59_999, 60_000, 65_999, 66_000),
    fc.nat(20_000),
  )
  const asked = fc.array(fc.tuple(wait, fc.integer({ min: 1, max: 25 })), { minLength: 50, maxLength: 300 })
  await fc.assert(
    fc.asyncProperty(asked, async (asks) => {
      const through = await attack(new MemoryStore(), '20/1m', asks.length, (i) => asks[i] ?? [0, 1])
      assert.ok(most(through, 60_000) <= 20)
    }),
    { numRuns: 300 },
  )
})

test('an adversary at the edges of the window gets the limit, and no more', async () => {
  const edges = (i: number): [number, number] => [i % 100 ? 1 : 60_000 - 99 - 50, 1]
  const through = await attack(new MemoryStore(), '30/1m', 5000, edges)
  assert.equal(most(through, 60_000), 30)
})

for (const limit of [1, 2, 3, 7, 10, 20, 97, 1000]) {
  test(`steady traffic at 85 % of ${limit} a minute is never refused`, async () => {
    const gap = 60_000 / (0.85 * limit)
    let at = 0
    const steady = (i: number): [number, number] => {
      const wait = Math.ceil(i * gap) - at
      at += wait
      return [wait, 1]
    }
    const tries = 20 * limit
    assert.equal((await attack(new MemoryStore(), `${limit}/1m`, tries, steady)).length, tries)
  })
}

test('the memory store is bounded, and the least used go first', async () => {
  const store = new MemoryStore(1000)
  const ask = (subject: string, now: number) => store.step(step([charge('1/1h', { subject })]), now)
  for (let i = 0; i < 1500; i++) {
    await ask(`stranger ${i}`, START + i)
    if (i % 100 === 0)
      await store.step(step([charge('1/1h', { subject: 'regular' })], { op: 'charge' }), START + i)
  }
  assert.equal(store.size, 1000)
  assert.equal((await ask('regular', START + 1500)).allowed, false)
  assert.equal((await ask('stranger 1499', START + 1500)).allowed, false)
  assert.equal((await ask('stranger 0', START + 1500)).allowed, true)
})

test('what has expired leaves the memory store as others come', async () => {
  const store = new MemoryStore(100_000)
  for (let i = 0; i < 1000; i++) await store.step(step([charge('1/1s', { subject: `old ${i}` })]), START)
  for (let i = 0; i < 1000; i++)
    await store.step(step([charge('1/1s', { subject: `new ${i}` })]), START + 2000)
  assert.equal(store.size, 1000)
})
