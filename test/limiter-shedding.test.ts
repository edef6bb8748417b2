import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, test } from 'node:test'
import type { Redis } from 'ioredis'
import { Leases } from '../core/limiter/leases'
import { MemoryStore } from '../core/limiter/memory-store'
import { RedisStore } from '../core/limiter/redis-store'
import { Refusals } from '../core/limiter/refusals'
import { resultOf } from '../core/limiter/result'
import { closeRedis, openRedis } from '../core/redis/connection'
import { fire, makeLimiter, untilRedis, type Watched } from './support/limiter'
import { charge, lease, START, step } from './support/limiter-contract'
import { RedisServer, until } from './support/redis'

let server: RedisServer
let admin: Redis
let watched: Watched
/** Commands that clients sent to Redis, those of this test and those within scripts left out. */
let sent: string[]

before(async () => {
  server = await RedisServer.start()
  admin = server.client()
})
beforeEach(async () => {
  await server.run('FLUSHALL')
  watched = makeLimiter({ ...server.settings, timeout: 2000 })
  await untilRedis(watched)
})
afterEach(() => watched.limiter.close())
after(async () => {
  admin.disconnect()
  await server.stop()
})

async function record(body: () => Promise<void>): Promise<string[]> {
  sent = []
  const monitor = await admin.monitor()
  monitor.on('monitor', (_time: string, args: string[], source: string) => {
    if (source !== 'lua') sent.push(args[0] ?? '')
  })
  await body()
  await admin.echo('end')
  await until(() => sent.includes('echo'))
  monitor.disconnect()
  return sent.filter((name) => name !== 'echo' && name !== 'keys')
}

test('a whole session sends at most five commands to Redis', async () => {
  const { limiter } = watched
  const limit = '99/1m, 999/1h'
  const by = (scope: string, what: string, more = {}) =>
    charge(limit, { scope, what, subject: `${scope} x`, ...more })
  const session = async (id: string) => {
    const network = { scope: 'network', subject: '203.0.113.0/24' }
    const leases = [lease('', 20, { id }), lease('', 99, { id, ...network })]
    await limiter.check(
      [charge(limit, { what: 'connections' }), charge(limit, { what: 'connections', ...network })],
      leases,
    )
    await limiter.check([
      by('ip', 'messages'),
      by('sender', 'messages'),
      by('ip', 'bytes', { checkOnly: true, cost: 99 }),
    ])
    const recipients = ['ip', 'sender', 'recipient'].map((scope) => by(scope, 'recipients'))
    assert.equal((await limiter.check(recipients)).allowed, true)
    await limiter.charge([by('ip', 'bytes', { cost: 50 })])
    limiter.release(id)
  }
  const released = () => until(async () => (await admin.keys('*concurrent*')).length === 0)
  await session('first')
  await released()
  const commands = await record(async () => {
    await session('second')
    await released()
  })
  assert.deepEqual(commands, ['evalsha', 'evalsha', 'evalsha', 'evalsha', 'evalsha'])
  const many = await record(async () => {
    await Promise.all(Array.from({ length: 20 }, (_, i) => session(`${i}`)))
    await released()
  })
  assert.ok(many.length <= 4.3 * 20, `leases are given back in batches: ${many.length}`)
})

test('one message to 8,200 domains is many small commands, refused and given back in all or none', async () => {
  const { limiter } = watched
  const to = Array.from({ length: 8200 }, (_, i) =>
    charge('9/1h', { what: 'bytes', scope: 'recipient domain', subject: `d${i}.test` }),
  )
  const full = charge('1/1h')
  await limiter.check([full])
  const sizes: number[] = []
  let isOver = false
  const monitor = await admin.monitor()
  monitor.on('monitor', (_time: string, [name, , keys]: string[], source: string) => {
    if (source !== 'lua' && name === 'evalsha') sizes.push(Number(keys))
    isOver ||= name === 'echo'
  })
  const { allowed, refusals } = await limiter.check([...to, full])
  assert.deepEqual([allowed, refusals.length, refusals[0]?.subject], [false, 1, full.subject])
  await admin.echo('end')
  await until(() => isOver)
  monitor.disconnect()
  assert.ok(
    sizes.length > 80 && Math.max(...sizes) <= 200,
    `${sizes.length} commands, up to ${Math.max(...sizes)} keys`,
  )
  assert.ok((await limiter.dryRun(to)).states.every(({ used }) => used === 0))
  assert.deepEqual(await admin.keys('*recipient-domain*'), [])
  const verdict = await limiter.check(to)
  assert.ok(verdict.allowed && verdict.states.every(({ used }) => used === 1))
  await limiter.refund(verdict)
  assert.deepEqual(await admin.keys('*recipient-domain*'), [])
  assert.deepEqual(watched.lines, [])
})

test('a flood of refused tries sends nothing to Redis', async () => {
  const flooded = charge('10/1h', { block: 60_000 })
  await fire(watched, 11, flooded)
  await fire(watched, 1, flooded)
  const commands = await record(async () => {
    for (let i = 0; i < 100; i++) assert.equal((await fire(watched, 100, flooded)).allowed, 0)
  })
  assert.deepEqual(commands, [])
  await watched.limiter.check([charge('9/1h', { what: 'recipients' })])
  const other = await watched.limiter.check([charge('9/1h', { what: 'recipients' })])
  assert.deepEqual([other.source, other.refusals[0]?.kind], ['remembered', 'block'])
})

test('what is remembered refuses this cost and more, and this limit, only', async () => {
  const { limiter } = watched
  const bytes = (cost: number, limit = '100/1h') => limiter.check([charge(limit, { what: 'bytes', cost })])
  assert.equal((await bytes(50)).allowed, true)
  assert.equal((await bytes(60)).source, 'redis')
  assert.equal((await bytes(60)).source, 'remembered')
  assert.equal((await bytes(61)).source, 'remembered')
  assert.equal((await bytes(50)).allowed, true)
  assert.equal((await bytes(60, '200/1h')).allowed, true)
  assert.equal((await bytes(101)).refusals[0]?.retryAfter, Number.POSITIVE_INFINITY)
})

test('the store is asked again when the subject may come back, or after 5 s', async () => {
  let now = 1000
  const refusals = new Refusals(() => now)
  const store = new MemoryStore()
  const refuse = async (limit: string) => {
    const asked = step([charge(limit, { what: limit })])
    await store.step(asked, START)
    refusals.remember(resultOf(asked, await store.step(asked, START)).refusals)
    return asked
  }
  const [second, hour] = [await refuse('1/1s'), await refuse('1/1h')]
  now += 1099
  assert.equal(refusals.find(second)[0]?.retryAfter, 1)
  now += 1
  assert.deepEqual(refusals.find(second), [])
  now += 3899
  assert.equal(refusals.find(hour).length, 1)
  now += 1
  assert.deepEqual(refusals.find(hour), [])
})

test('unblock and reset hold at once here, and within 5 s in another process', async () => {
  let now = 0
  const settings = { ...server.settings, timeout: 2001, prefix: 'relay-guard:' }
  const other = makeLimiter(settings, 'host/2', () => now)
  await untilRedis(other)
  const asked = charge('1/1h')
  await watched.limiter.block(asked, 60_000, 'test', 'admin')
  for (const { limiter } of [watched, other]) {
    const { refusals } = await limiter.check([asked])
    assert.ok(refusals[0]?.kind === 'block' && refusals[0].block.by === 'admin')
    assert.ok(refusals[0].retryAfter > 0 && refusals[0].retryAfter <= 60_000)
  }
  await watched.limiter.unblock(asked)
  assert.equal((await watched.limiter.check([asked])).allowed, true)
  await watched.limiter.reset(asked)
  now = 4999
  assert.equal((await other.limiter.check([asked])).source, 'remembered')
  now = 5000
  assert.equal((await other.limiter.check([asked])).allowed, true)
  await other.limiter.close()
})

test('a slot that comes free here is given out at once', async () => {
  const { limiter } = watched
  const open = (id: string) => limiter.check([], [lease('', 1, { id })])
  assert.equal((await open('a')).allowed, true)
  assert.equal((await open('b')).allowed, false)
  assert.equal((await open('b')).source, 'remembered')
  limiter.release('a')
  assert.equal((await open('b')).allowed, true)
})

test('a client that drops while its lease is being taken leaves none behind', async () => {
  const { limiter } = watched
  const taking = limiter.check([], [lease('', 1, { id: 'a' })])
  limiter.release('a')
  await taking
  assert.equal((await limiter.check([], [lease('', 1, { id: 'b' })])).allowed, true)
})

test('a refund gives back what a check charged', async () => {
  const { limiter } = watched
  const asked = charge('2/1h')
  const verdict = await limiter.check([asked, charge('9/1h', { what: 'bytes', checkOnly: true })])
  await limiter.check([asked])
  await limiter.refund(verdict)
  const { states } = await limiter.dryRun([asked, charge('9/1h', { what: 'bytes' })])
  assert.deepEqual(
    states.map(({ used }) => used),
    [1, 0],
  )
})

test('the heartbeat brings back leases that FLUSHALL took, and a killed process keeps none for long', async () => {
  const client = openRedis(server.settings)
  await until(() => client.status === 'ready')
  const store = new RedisStore(client, { prefix: 'beat:', timeout: 1000 })
  const leases = new Leases(store, 100)
  const mine = [lease('mine', 1)]
  await leases.take(mine, () => store.step(step([], { leases: mine })))
  await server.run('FLUSHALL')
  const key = 'beat:concurrent:{ip:203.0.113.9}'
  await until(async () => Number(await server.run('ZCARD', key)) === 1)
  const ttl = Number(await server.run('PTTL', key))
  assert.ok(ttl > 59_000 && ttl <= 60_000, `${ttl}`)
  await leases.close()
  assert.equal(await server.run('ZCARD', key), 0)
  await closeRedis(client)
})

test('every key has a TTL', async () => {
  const { limiter } = watched
  const asked = charge('2/1h, 9/1d', { block: 60_000 })
  for (const subject of ['a', 'b', 'c']) {
    const more = { ...asked, subject }
    const verdict = await limiter.check([more], [lease('', 1, { subject, id: subject })])
    await limiter.check([{ ...more, cost: 99, block: 0 }])
    await limiter.charge([{ ...more, what: 'failed logins', cost: 3 }])
    await limiter.refund(verdict)
    await limiter.block({ scope: 'user', subject }, 60_000, 'test')
  }
  const keys = await admin.keys('*')
  assert.ok(keys.length >= 12, `${keys}`)
  for (const key of keys) assert.ok((await admin.pttl(key)) > 0, key)
})
