import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, test } from 'node:test'
import { Limiter } from '../core/limiter'
import type { Answer } from '../core/limiter/contract'
import { Failover, type Primary } from '../core/limiter/failover'
import { MemoryStore } from '../core/limiter/memory-store'
import type { RedisSettings } from '../core/redis/endpoint'
import { assertTwoLines, fire, makeLimiter, untilMemory, untilRedis, type Watched } from './support/limiter'
import { charge, lease, step } from './support/limiter-contract'
import { until } from './support/patience'
import { RedisServer } from './support/redis'

/** Of the tests in which Redis does not answer; elsewhere one that is only late is no failure. */
const TIMEOUT = 1000
const KEY = 'relay-guard:rate:{ip:203.0.113.9}:messages'

let server: RedisServer
let watched: Watched

before(async () => {
  server = await RedisServer.start()
})
async function start(more: Partial<RedisSettings> = {}): Promise<void> {
  watched = makeLimiter({ ...server.settings, ...more })
  await untilRedis(watched)
}
beforeEach(async () => {
  await server.run('FLUSHALL')
  await start()
})
afterEach(() => watched.limiter.close())
/** From now on Redis has so long. */
async function beImpatient(): Promise<void> {
  await watched.limiter.close()
  await start({ timeout: TIMEOUT })
}
after(() => server.stop())

const used = async () => Number((await server.run('HGET', KEY, '1h.used')) ?? 0)

test('a Redis that is down at start leaves the limits in force, and is used once it is there', async () => {
  const late = await RedisServer.start()
  await late.kill()
  const started = makeLimiter(late.settings)
  assert.equal((await fire(started, 30)).allowed, 10)
  await until(() => started.lines.length === 1)
  assert.equal((await fire(started, 30)).allowed, 0)
  await late.up()
  await untilRedis(started)
  assertTwoLines(started, /^redis: down \(.*ECONNREFUSED.*\)$/)
  await started.limiter.close()
  await late.stop()
})

test('connections that come before Redis is connected to count there before the next one asks', async () => {
  const own = await RedisServer.start()
  const started = makeLimiter(own.settings)
  const slot = (n: number) => started.limiter.check([], [lease(`host/1/${n}`, 3)])
  const early = await Promise.all([1, 2, 3].map(slot))
  assert.deepEqual(
    early.map(({ allowed, source }) => `${allowed} ${source}`),
    ['true memory', 'true memory', 'true memory'],
  )
  await started.limiter.ready(10_000)
  const { allowed, source } = await slot(4)
  assert.deepEqual([allowed, source], [false, 'redis'])
  await started.limiter.close()
  await own.stop()
})

test('a Redis that hangs costs the timeout once, and charges nothing when it goes on', async () => {
  assert.equal((await fire(watched, 4)).allowed, 4)
  await beImpatient()
  server.hang()
  const first = await fire(watched, 30)
  assert.equal(first.allowed, 10, 'memory starts afresh: 2 L at most in all')
  const next = await fire(watched, 300)
  assert.equal(next.allowed, 0)
  // Longer than the timeout after the last step was sent, so all of them are late.
  await new Promise((resolve) => setTimeout(resolve, 2 * TIMEOUT))
  server.goOn()
  await untilRedis(watched)
  assert.equal(await used(), 4, 'the steps that waited in its socket did nothing')
  assertTwoLines(watched, /no answer within 1000 ms/)
  assert.equal((await fire(watched, 30, charge('10/1h', { cost: 1 }))).allowed <= 6, true)
})

test('a Redis that is killed and comes back empty lets at most twice the limit through', async () => {
  const before = fire(watched, 50, charge('100/1h'))
  const killed = server.kill()
  const { allowed } = await before
  await killed
  const during = await fire(watched, 200, charge('100/1h'))
  assert.ok(allowed + during.allowed <= 200, `${allowed} + ${during.allowed}`)
  await server.up()
  await untilRedis(watched)
  assert.equal(await used(), 0, 'nothing is sent again')
  assertTwoLines(watched, /^redis: down/)
})

test('a paused Redis is left alone and found again', async () => {
  await beImpatient()
  await server.run('CLIENT', 'PAUSE', 3000, 'ALL')
  const { allowed } = await fire(watched, 30)
  assert.equal(allowed, 10)
  await untilRedis(watched)
  assert.equal(await used(), 0)
})

test('a full Redis is a failure, and the way back is open when it has room', async () => {
  await server.run('CONFIG', 'SET', 'maxmemory', '1', 'maxmemory-policy', 'noeviction')
  const { allowed } = await fire(watched, 30)
  assert.equal(allowed, 10)
  const refused = async () =>
    Number(/errorstat_OOM:count=(\d+)/.exec(`${await server.run('INFO', 'errorstats')}`)?.[1] ?? 0)
  const before = await refused()
  await until(async () => (await refused()) >= before + 2, 'two tries in the background')
  assert.equal(watched.limiter.source, 'memory', 'it answers PING, but takes no writes')
  await server.run('CONFIG', 'SET', 'maxmemory', '0')
  await untilRedis(watched)
  assertTwoLines(watched, /OOM/)
})

test('a read-only Redis is a failure until it is a master again', async () => {
  await server.run('REPLICAOF', '127.0.0.1', 1)
  assert.equal((await fire(watched, 30)).allowed, 10)
  await server.run('REPLICAOF', 'NO', 'ONE')
  await untilRedis(watched)
  assertTwoLines(watched, /^redis: down/)
})

test('a Redis that no longer knows the password is a failure', async () => {
  const admin = server.client()
  await admin.config('SET', 'requirepass', 'secret')
  await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
  await untilMemory(watched)
  assert.equal((await fire(watched, 30)).allowed, 10)
  await admin.config('SET', 'requirepass', '')
  await untilRedis(watched)
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
  // That no slot was free is remembered for a second.
  await until(async () => (await open('c')).allowed)
  await server.up()
  await untilRedis(watched)
  const members = async () =>
    [await server.run('ZRANGE', 'relay-guard:concurrent:{ip:203.0.113.9}', 0, -1)].flat().sort().join()
  await until(async () => (await members()) === 'b,c')
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
  await untilRedis(watched)
  await limiter.check([asked])
  await limiter.refund(inMemory)
  assert.equal(await used(), 1)
})

test('who waits for a store that does not answer waits once: while it is away nobody asks it', async () => {
  let asked = 0
  class Silent extends MemoryStore implements Primary {
    override readonly source = 'redis'
    override step(): Promise<Answer> {
      asked++
      return new Promise(() => undefined)
    }
    override renew = async () => undefined
    override release = async () => undefined
    probe = () => new Promise<void>(() => undefined)
    blame = () => 'store' as const
  }
  const lines: string[] = []
  const options = { name: 'redis', timeout: 20, log: (line: string) => lines.push(line), held: () => [] }
  const store = new Failover(new Silent(), new MemoryStore(), options)
  const ask = () => store.step(step([charge('10/1h')]))
  const answers = await Promise.all(Array.from({ length: 30 }, ask))
  assert.equal(answers.filter(({ allowed }) => allowed).length, 10)
  for (let i = 0; i < 300; i++) assert.equal((await ask()).source, 'memory')
  assert.equal(asked, 30)
  assert.deepEqual(lines, ['redis: down (no answer within 20 ms)'])
  store.close()
})

test('a database that Redis does not give is a failure, and nothing is counted in another one', async (t) => {
  const strict = await RedisServer.start('--user', 'mx', 'on', '>pw', '~*', '+@all', '-select')
  t.after(() => strict.stop())
  const cases: [Partial<typeof strict.settings.base>, RegExp][] = [
    [{ database: 99 }, /^redis: down \(SELECT 99: ERR DB index is out of range\)$/],
    [
      { database: 3, username: 'mx', password: 'pw' },
      /^redis: down \(SELECT 3: NOPERM .* 'select' command\)$/,
    ],
  ]
  for (const [more, line] of cases) {
    const lines: string[] = []
    const base = { ...strict.settings.base, ...more }
    const limiter = new Limiter({ settings: { ...strict.settings, base }, log: (each) => lines.push(each) })
    t.after(() => limiter.close())
    await until(() => lines.length > 0)
    assert.equal((await fire({ limiter, lines }, 30)).allowed, 10)
    assert.equal(limiter.source, 'memory')
    assert.match(lines.join('\n'), line)
    assert.equal(await strict.run('DBSIZE'), 0)
    if (more.username) {
      await strict.run('ACL', 'SETUSER', 'mx', '+select')
      await untilRedis({ limiter, lines })
      await limiter.check([charge('10/1h')])
      assert.match(`${await strict.run('INFO', 'keyspace')}`, /db3:keys=[1-9]/)
      assert.equal(lines.at(-1), 'redis: back')
    }
  }
})
