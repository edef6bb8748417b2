import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, test } from 'node:test'
import type { Redis } from 'ioredis'
import type { Charge } from '../core/limiter/contract'
import { Leases } from '../core/limiter/leases'
import { MemoryStore } from '../core/limiter/memory-store'
import { parseRate, unlimited } from '../core/limiter/rate'
import { RedisStore } from '../core/limiter/redis-store'
import { Refusals } from '../core/limiter/refusals'
import { resultOf } from '../core/limiter/result'
import { Returns } from '../core/limiter/returns'
import { closeRedis, openRedis } from '../core/redis/connection'
import { untilHeard } from './support/heard'
import { fire, makeLimiter, untilRedis, type Watched } from './support/limiter'
import { charge, lease, START, step } from './support/limiter-contract'
import { until } from './support/patience'
import { RedisServer } from './support/redis'

const BYTES = parseRate('5G/1h')
const NETWORK = parseRate('1200/1m')

/** What a test asks itself, and what a connection says to live. */
const OURS = new Set([
  'echo',
  'keys',
  'hget',
  'hello',
  'client',
  'info',
  'ping',
  'subscribe',
  'dbsize',
  'scan',
  'monitor',
])

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
  watched = makeLimiter(server.settings)
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
    // Nor what tries Redis beside it.
    if (source !== 'lua' && !args[3]?.includes('{probe:')) sent.push(args[0] ?? '')
  })
  await body()
  await admin.echo('end')
  await until(() => sent.includes('echo'))
  monitor.disconnect()
  return sent.filter((name) => !OURS.has(name))
}

const session = async ({ limiter }: Watched, ip: string, isKnown = true) => {
  const network = { scope: 'network', subject: '203.0.113.0/24' }
  const of = (what: string, cost = 1, more: Partial<Charge> = {}) =>
    charge('99/1m, 999999999/1h', { what, subject: ip, cost, advance: 64 * cost, ...more })
  const nobody = charge('99/1m', { scope: 'recipient', subject: 'anna@ours.test' })
  const blockOf = { ...nobody, limit: unlimited }
  const bytes = (cost: number) => of('bytes', cost, { limit: BYTES })
  const id = `host/1/${ip}`
  const leases = [lease('', 50, { id, subject: ip }), lease('', 200, { id, ...network })]
  const connections = [of('connections'), of('connections', 1, { ...network, limit: NETWORK })]
  const next = () => [of('messages'), of('recipients', 2), bytes(65_536)]
  assert.equal((await limiter.check(connections, leases, next)).allowed, true)
  assert.equal((await limiter.check([of('messages'), bytes(999)])).allowed, true)
  const recipients = [of('recipients'), isKnown ? blockOf : nobody]
  assert.equal((await limiter.check(recipients)).allowed, true)
  assert.equal((await limiter.check([bytes(1000)])).allowed, true)
  limiter.release(id)
}

test('a whole session sends one command to Redis, and one a second takes back what is left', async () => {
  await until(() => watched.limiter.remembersFor === Number.POSITIVE_INFINITY)
  const isBack = async () => {
    const keys = await admin.keys('*{ip:*')
    const held = await Promise.all(keys.map((key) => admin.hget(key, '1m.leased').catch(() => '1')))
    return held.every((leased) => Number(leased) === 0)
  }
  const sessions = async (count: number, isKnown: boolean) => {
    // What is held ends with a tenth of a minute: none must end while sessions run.
    await until(async () => Number((await admin.time())[0]) % 6 < 3)
    const start = performance.now()
    const commands = await record(async () => {
      for (let i = 0; i < count; i++) await session(watched, `203.0.113.${isKnown ? i : 100 + i}`, isKnown)
      await until(isBack)
    })
    const seconds = (performance.now() - start) / 1000
    return { sent: commands.filter((name) => name === 'evalsha' || name === 'eval').length, seconds }
  }
  await session(watched, '203.0.113.99')
  await until(isBack)
  const alone = await sessions(20, true)
  assert.ok(alone.sent >= 20 && alone.sent <= 24 + alone.seconds, `${JSON.stringify(alone)} for 20 sessions`)
  const limited = await sessions(20, false)
  assert.ok(
    limited.sent >= 40 && limited.sent <= 44 + limited.seconds,
    `${JSON.stringify(limited)} for 20 sessions to a limited recipient`,
  )
  const left = async (what: string) => admin.hget(`relay-guard:rate:{ip:203.0.113.7}:${what}`, '1m.used')
  assert.deepEqual([await left('messages'), await left('recipients')], ['1', '1'])
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
  // Of its own block it hears, too, and asks once more.
  await untilHeard(admin)
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

test('the store is asked again when the subject may come back, or after the longest time given', async () => {
  let now = 1000
  const refusals = new Refusals(() => now)
  const store = new MemoryStore()
  const refuse = async (limit: string) => {
    const asked = step([charge(limit, { what: limit })])
    await store.step(asked, START)
    refusals.remember(resultOf(asked, await store.step(asked, START)).refusals, 5000)
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

test('unblock and reset hold at once here, and in another process as soon as it hears of them', async () => {
  const settings = { ...server.settings, timeout: 20_000 }
  const other = makeLimiter(settings, 'host/2')
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
  await until(async () => (await other.limiter.check([asked])).refusals[0]?.kind === 'rate')
  await until(async () => (await other.limiter.check([asked])).source === 'remembered')
  await watched.limiter.reset(asked)
  await until(async () => (await other.limiter.check([asked])).allowed)
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
  const store = new RedisStore(client, { prefix: 'beat:', timeout: server.settings.timeout })
  const returns = new Returns(({ leases }) => store.release(leases))
  const leases = new Leases(store, { returns, mayKeep: () => false, beat: 100 })
  const mine = [lease('mine', 1)]
  await leases.take(mine, () => store.step(step([], { leases: mine })))
  await server.run('FLUSHALL')
  const key = 'beat:concurrent:{ip:203.0.113.9}'
  await until(async () => Number(await server.run('ZCARD', key)) === 1)
  const ttl = Number(await server.run('PTTL', key))
  assert.ok(ttl > 30_000 && ttl <= 60_000, `${ttl}`)
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
  // -2: its end has come meanwhile.
  for (const key of keys) assert.notEqual(await admin.pttl(key), -1, key)
})
