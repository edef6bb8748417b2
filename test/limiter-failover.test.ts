import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, test } from 'node:test'
import { assertTwoLines, fire, makeLimiter, untilMemory, untilRedis, type Watched } from './support/limiter'
import { charge, lease } from './support/limiter-contract'
import { RedisServer } from './support/redis'

const TIMEOUT = 250
/** What a check may take beyond the timeout here, where other tests run beside it. */
const SLACK = 250
/** The way back: 2 s, and what starting redis-server takes. */
const BACK = 2500
const KEY = 'relay-guard:rate:{ip:203.0.113.9}:messages'

let server: RedisServer
let watched: Watched

before(async () => {
  server = await RedisServer.start()
})
beforeEach(async () => {
  await server.run('FLUSHALL')
  watched = makeLimiter(server.settings)
  await untilRedis(watched)
})
afterEach(() => watched.limiter.close())
after(() => server.stop())

const used = async () => Number((await server.run('HGET', KEY, '1h.used')) ?? 0)

test('a Redis that is down at start leaves the limits in force, and is used once it is there', async () => {
  const late = await RedisServer.start()
  await late.kill()
  const started = makeLimiter(late.settings)
  assert.equal((await fire(started, 30)).allowed, 10)
  await new Promise((resolve) => setTimeout(resolve, 1100))
  assert.ok((await fire(started, 30)).longest < SLACK)
  await late.up()
  await untilRedis(started, BACK)
  assertTwoLines(started, /^redis: down \(.*ECONNREFUSED.*\)$/)
  await started.limiter.close()
  await late.stop()
})

test('a Redis that hangs costs the timeout once, and charges nothing when it goes on', async () => {
  assert.equal((await fire(watched, 4)).allowed, 4)
  server.hang()
  const first = await fire(watched, 30)
  assert.ok(first.longest >= TIMEOUT - 1 && first.longest < TIMEOUT + SLACK, `${first.longest} ms`)
  assert.equal(first.allowed, 10, 'memory starts afresh: 2 L at most in all')
  const next = await fire(watched, 300)
  assert.equal(next.allowed, 0)
  assert.ok(next.longest < SLACK, `${next.longest} ms`)
  // Longer than the timeout after the last step was sent, so all of them are late.
  await new Promise((resolve) => setTimeout(resolve, 2 * TIMEOUT))
  server.goOn()
  await untilRedis(watched, BACK)
  assert.equal(await used(), 4, 'the steps that waited in its socket did nothing')
  assert.equal((await fire(watched, 30, charge('10/1h', { cost: 1 }))).allowed <= 6, true)
  assertTwoLines(watched, /no answer within 250 ms/)
})

test('a Redis that is killed and comes back empty lets at most twice the limit through', async () => {
  const before = fire(watched, 50, charge('100/1h'))
  const killed = server.kill()
  const { allowed } = await before
  await killed
  const during = await fire(watched, 200, charge('100/1h'))
  assert.ok(allowed + during.allowed <= 200, `${allowed} + ${during.allowed}`)
  assert.ok(during.longest < TIMEOUT + SLACK)
  await server.up()
  await untilRedis(watched, BACK)
  assert.equal(await used(), 0, 'nothing is sent again')
  assertTwoLines(watched, /^redis: down/)
})

test('a paused Redis is left alone and found again', async () => {
  await server.run('CLIENT', 'PAUSE', 1000, 'ALL')
  const { allowed, longest } = await fire(watched, 30)
  assert.equal(allowed, 10)
  assert.ok(longest < TIMEOUT + SLACK, `${longest} ms`)
  await untilRedis(watched, 1000 + BACK)
  assert.equal(await used(), 0)
})

test('a full Redis is a failure, and the way back is open when it has room', async () => {
  await server.run('CONFIG', 'SET', 'maxmemory', '1', 'maxmemory-policy', 'noeviction')
  const { allowed, longest } = await fire(watched, 30)
  assert.equal(allowed, 10)
  assert.ok(longest < SLACK)
  await new Promise((resolve) => setTimeout(resolve, 1200))
  assert.equal(watched.limiter.source, 'memory', 'it answers PING, but takes no writes')
  await server.run('CONFIG', 'SET', 'maxmemory', '0')
  await untilRedis(watched, BACK)
  assertTwoLines(watched, /OOM/)
})

test('a read-only Redis is a failure until it is a master again', async () => {
  await server.run('REPLICAOF', '127.0.0.1', 1)
  assert.equal((await fire(watched, 30)).allowed, 10)
  await server.run('REPLICAOF', 'NO', 'ONE')
  await untilRedis(watched, BACK)
  assertTwoLines(watched, /^redis: down/)
})

test('a Redis that no longer knows the password is a failure', async () => {
  const admin = server.client()
  await admin.config('SET', 'requirepass', 'secret')
  await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
  await untilMemory(watched)
  assert.equal((await fire(watched, 30)).allowed, 10)
  await admin.config('SET', 'requirepass', '')
  await untilRedis(watched, BACK)
  admin.disconnect()
})

test('SCRIPT FLUSH is not noticed', async () => {
  await fire(watched, 4)
  await server.run('SCRIPT', 'FLUSH')
  assert.equal((await fire(watched, 30)).allowed, 6)
  assert.deepEqual(watched.lines, [])
})

test('a key of the wrong type concerns its own subject only', async () => {
  await server.run('SET', KEY, 'not a hash', 'EX', '60')
  assert.equal((await fire(watched, 30)).allowed, 10)
  const other = charge('10/1h', { subject: 'other' })
  assert.equal((await watched.limiter.check([other])).source, 'redis')
  assert.equal(watched.lines.length, 1)
  assert.match(watched.lines[0] ?? '', /^redis: one counter failed \(WRONGTYPE/)
})

test('leases are taken along when Redis goes and when it comes back', async () => {
  const open = (id: string) => watched.limiter.check([], [{ ...lease(id, 2), id }])
  assert.equal((await open('a')).allowed, true)
  assert.equal((await open('b')).allowed, true)
  await server.kill()
  await untilMemory(watched)
  assert.equal((await open('c')).allowed, false, 'a and b are still connected')
  watched.limiter.release('a')
  await new Promise((resolve) => setTimeout(resolve, 1100))
  assert.equal((await open('c')).allowed, true)
  await server.up()
  await untilRedis(watched, BACK)
  await new Promise((resolve) => setTimeout(resolve, 100))
  const members = await server.run('ZRANGE', 'relay-guard:concurrent:{ip:203.0.113.9}', 0, -1)
  assert.deepEqual([members].flat().sort(), ['b', 'c'])
})

test('what Redis charged is not given back in memory, and the other way round', async () => {
  const { limiter } = watched
  const asked = charge('2/1h')
  const inRedis = await limiter.check([asked])
  await server.kill()
  await untilMemory(watched)
  const inMemory = await limiter.check([asked])
  await limiter.refund(inRedis)
  assert.deepEqual([inRedis.source, inMemory.source], ['redis', 'memory'])
  assert.equal((await limiter.dryRun([asked])).states[0]?.used, 1)
  await server.up()
  await untilRedis(watched, BACK)
  await limiter.check([asked])
  await limiter.refund(inMemory)
  assert.equal(await used(), 1)
})
