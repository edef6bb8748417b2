// redis.ini is reloaded under open connections: wherever is counted next, never more are open than the limit allows.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { RedisSettings } from '../core/redis/endpoint'
import { makeLimiter, untilMemory, untilRedis, type Watched } from './support/limiter'
import { charge, lease } from './support/limiter-contract'
import { until } from './support/patience'
import { noRedis, RedisServer, startCluster } from './support/redis'

const LIMIT = 3
let one: RedisServer
let other: RedisServer
let cluster: Awaited<ReturnType<typeof startCluster>>
let dead: RedisServer
before(async () => {
  ;[one, other, dead, cluster] = await Promise.all([
    RedisServer.start(),
    RedisServer.start(),
    RedisServer.start(),
    startCluster(),
  ])
  await dead.kill()
})
after(() => Promise.all([one, other, dead, ...(cluster?.nodes ?? [])].map((server) => server?.stop())))

const NOWHERE = 'a server that is not there'
const SUBJECT = 'concurrent:{ip:203.0.113.9}'
const members = async (servers: RedisServer[], prefix = 'relay-guard:'): Promise<string[]> => {
  const found = await Promise.all(
    servers.map((server) => server.run('ZRANGE', `${prefix}${SUBJECT}`, 0, -1).catch(() => [])),
  )
  return (found as string[][]).flat().sort()
}

const switches: [
  string,
  () => RedisSettings,
  () => RedisSettings,
  () => Promise<string[]>,
  () => Promise<string[]>,
][] = [
  [
    'another prefix',
    () => one.settings,
    () => ({ ...one.settings, prefix: 'mx:' }),
    () => members([one]),
    () => members([one], 'mx:'),
  ],
  ['another server', () => one.settings, () => other.settings, () => members([one]), () => members([other])],
  [
    'a Cluster instead of one server',
    () => one.settings,
    () => cluster.settings,
    () => members([one]),
    () => members(cluster.nodes),
  ],
  [
    'one server instead of a Cluster',
    () => cluster.settings,
    () => one.settings,
    () => members(cluster.nodes),
    () => members([one]),
  ],
  ['Redis switched on', () => noRedis, () => one.settings, async () => [], () => members([one])],
  [
    'Redis switched off',
    () => one.settings,
    () => noRedis,
    () => members([one]),
    async () => ['1', '2', '3'],
  ],
  [
    'another timeout, which is the same place',
    () => one.settings,
    () => ({ ...one.settings, timeout: 20_000 }),
    async () => [],
    () => members([one]),
  ],
  [
    'the same server by another name',
    () => one.settings,
    () => ({ ...one.settings, base: { ...one.settings.base, host: '::ffff:127.0.0.1' } }),
    async () => [],
    () => members([one]),
  ],
  [
    'a server that is not there',
    () => one.settings,
    () => dead.settings,
    () => members([one]),
    async () => ['1', '2', '3'],
  ],
]

const open = (watched: Watched, id: string) =>
  watched.limiter.check([], [lease(id, LIMIT, { id })]).then(({ allowed }) => allowed)

for (const [name, from, to, left, found] of switches)
  test(`${name}: the concurrency limit holds at every moment`, async () => {
    await Promise.all([one, other, ...cluster.nodes].map((server) => server.run('FLUSHALL')))
    const settings = to()
    const watched = makeLimiter(from())
    try {
      await (from().enabled ? untilRedis(watched) : untilMemory(watched))
      assert.deepEqual(await Promise.all([open(watched, '1'), open(watched, '2')]), [true, true])
      // Some ask before, at, and after the change; the answers come later. One place is free.
      const asked = [open(watched, '3')]
      for (let i = 4; i < 8; i++) asked.push(open(watched, `${i}`))
      watched.limiter.use(settings)
      for (let i = 8; i < 20; i++) asked.push(open(watched, `${i}`))
      const granted = (await Promise.all(asked)).filter(Boolean).length
      assert.equal(granted, 1, 'one place was free')
      let tried = 20
      const refused = async () => {
        watched.limiter.forgetRefusals()
        assert.equal(await open(watched, `${tried++}`), false)
      }
      const isOver = () => name === NOWHERE || !settings.enabled || watched.limiter.source === 'redis'
      await until(async () => {
        for (let i = 0; i < 10; i++) await refused()
        return isOver()
      })
      for (let i = 0; i < 50; i++) await refused()
      await until(async () => (await left()).length === 0, 'giving back the leases')
      assert.equal((await found()).length, LIMIT)
      // And a place that is freed now can be had, once.
      watched.limiter.release('1')
      await until(() => {
        watched.limiter.forgetRefusals()
        return open(watched, 'last')
      }, 'the free place')
      watched.limiter.forgetRefusals()
      assert.equal(await open(watched, 'one more'), false)
    } finally {
      await watched.limiter.close()
    }
  })

test('what was charged in the Redis that was left is not given back in the new one', async () => {
  await Promise.all([one, other].map((server) => server.run('FLUSHALL')))
  const watched = makeLimiter(one.settings)
  try {
    await untilRedis(watched)
    const asked = charge('5/1h')
    const before = await watched.limiter.check([asked])
    watched.limiter.use(other.settings)
    await until(() => watched.limiter.source === 'redis')
    const now = await watched.limiter.check([asked])
    await watched.limiter.refund(before)
    assert.equal((await watched.limiter.dryRun([asked])).states[0]?.used, 1)
    await watched.limiter.refund(now)
    assert.equal((await watched.limiter.dryRun([asked])).states[0]?.used, 0)
  } finally {
    await watched.limiter.close()
  }
})

test('what was spent in advance in the Redis that was left is not given back in the new one', async () => {
  await Promise.all([one, other].map((server) => server.run('FLUSHALL')))
  const watched = makeLimiter(one.settings)
  const { limiter } = watched
  const isListening = () => limiter.remembersFor === Number.POSITIVE_INFINITY
  try {
    await untilRedis(watched)
    await until(isListening)
    const asked = charge('500/7d', { advance: 64 })
    // Something is taken along for who comes again.
    for (let i = 0; i < 2; i++) await limiter.check([asked])
    const spent = await limiter.check([asked])
    assert.ok(spent.charged[0]?.budget, 'spent from what was taken along')
    limiter.use(other.settings)
    await until(() => limiter.source === 'redis')
    await limiter.charge([{ ...asked, cost: 3 }])
    await limiter.refund(spent)
    await limiter.close()
    assert.equal(await other.run('HGET', 'relay-guard:rate:{ip:203.0.113.9}:messages', '7d.used'), '3')
  } finally {
    await limiter.close()
  }
})

test('switched off, it says so once, and when it is switched on again', async () => {
  const watched = makeLimiter(one.settings)
  await untilRedis(watched)
  watched.limiter.use(noRedis)
  watched.limiter.use({ ...noRedis, timeout: 300 })
  assert.deepEqual(watched.lines, ['redis: off (redis.ini [redis] enabled = false)'])
  await watched.limiter.close()
})
