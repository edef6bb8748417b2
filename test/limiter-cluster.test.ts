import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { after, before, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { promisify } from 'node:util'
import { askRedis } from '../cli/check/ask'
import { Limiter } from '../core/limiter'
import { readRedis } from '../core/redis/config'
import { fire, makeLimiter, untilMemory, untilRedis, type Watched } from './support/limiter'
import { charge, lease } from './support/limiter-contract'
import { until } from './support/patience'
import { readText } from './support/reading'
import { noRedis, type RedisServer, startCluster } from './support/redis'

let nodes: RedisServer[]
let watched: Watched

before(async () => {
  const started = await startCluster()
  nodes = started.nodes
  watched = makeLimiter(started.settings)
  await untilRedis(watched)
})
after(async () => {
  await watched.limiter.close()
  await Promise.all(nodes.map((node) => node.stop()))
})

const subjects = Array.from({ length: 30 }, (_, i) => `203.0.113.${i}`)

test('subjects on all nodes of a cluster are limited', async () => {
  for (const subject of subjects) {
    const { allowed } = await fire(watched, 5, charge('3/1h', { subject }))
    assert.equal(allowed, 3, subject)
  }
  const sizes = await Promise.all(nodes.map((node) => node.run('DBSIZE')))
  assert.ok(
    sizes.every((size) => Number(size) > 0),
    `${sizes}`,
  )
})

test('what one subject refuses is charged to no other, on whatever node it lies', async () => {
  const full = charge('1/1h', { scope: 'user', subject: 'full' })
  const others = subjects.map((subject) => charge('9/1h', { what: 'recipients', subject }))
  const slots = subjects.slice(0, 9).map((subject) => lease('x', 9, { subject }))
  await watched.limiter.check([full])
  const { allowed, refusals, states } = await watched.limiter.check([...others, full], slots)
  assert.deepEqual([allowed, refusals.length, refusals[0]?.subject], [false, 1, 'full'])
  assert.deepEqual(
    states.map(({ used }) => used),
    [...others.map(() => 0), 1],
  )
  const peeked = await watched.limiter.dryRun(others)
  assert.ok(peeked.states.every(({ used }) => used === 0))
  for (const node of nodes) {
    for (const key of [await node.run('KEYS', '*concurrent*')].flat()) {
      assert.equal(await node.run('ZCARD', `${key}`), 0)
    }
  }
})

test('blocks, unblocking and reset reach their node', async () => {
  const { limiter } = watched
  const bob = { scope: 'user', subject: 'bob' }
  const asked = charge('1/1h', bob)
  await limiter.block(bob, 60_000, 'stolen')
  assert.equal((await limiter.check([asked])).refusals[0]?.kind, 'block')
  await limiter.unblock(bob)
  assert.equal((await limiter.check([asked])).allowed, true)
  assert.equal((await limiter.check([asked])).allowed, false)
  await limiter.reset(bob)
  assert.equal((await limiter.check([asked])).allowed, true)
})

test('limits hold exactly while slots move from node to node', async () => {
  const [first, second] = nodes as [RedisServer, RedisServer]
  const [from, to] = await Promise.all([first.run('CLUSTER', 'MYID'), second.run('CLUSTER', 'MYID')])
  const options = [
    '--cluster-from',
    `${from}`,
    '--cluster-to',
    `${to}`,
    '--cluster-slots',
    '300',
    '--cluster-yes',
  ]
  const moving = promisify(execFile)('redis-cli', [
    '--cluster',
    'reshard',
    `127.0.0.1:${first.port}`,
    ...options,
  ])
  let moved = false
  void moving.then(() => {
    moved = true
  })
  const allowed = new Map(subjects.map((subject) => [subject, 0]))
  for (let round = 0; round < 8 || !moved; round++) {
    // What is remembered is answered without a turn of the event loop.
    await nextTurn()
    for (const subject of subjects) {
      const asked = charge('7/1h', { subject, what: 'messages' })
      if ((await watched.limiter.check([asked, charge('9/1d', { subject, what: 'bytes' })])).allowed) {
        allowed.set(subject, allowed.get(subject)! + 1)
      }
    }
  }
  await moving
  // 3 of 7 were charged above.
  assert.deepEqual([...new Set(allowed.values())], [4])
  assert.deepEqual(watched.lines, [])
})

test('a seed whose name is not known takes no other one down, and is the reason where there is no other', async (t) => {
  const dead = { host: 'nope.invalid', port: 6379 }
  const cluster = nodes.map(({ port }) => ({ host: '127.0.0.1', port }))
  const lines: string[] = []
  const start = (seeds: (typeof dead)[]) => {
    const settings = { ...noRedis, enabled: true, cluster: seeds }
    const limiter = new Limiter({ settings, log: (line) => lines.push(line) })
    t.after(() => limiter.close())
    return limiter
  }
  for (const seeds of [
    [dead, cluster[0]!],
    [cluster[1]!, dead],
  ]) {
    const limiter = start(seeds)
    await untilRedis({ limiter, lines })
    // Told of as back where it took longer than a second.
    assert.match(lines.at(-1) ?? '', /^redis: (up \(cluster .*nope\.invalid:6379.*\)|back)$/)
    lines.length = 0
    const { value } = readText('redis.ini', '[redis]\n', readRedis, { 'config/redis.ini': '' })
    const { ok, said } = await askRedis({ ...value, cluster: seeds })
    assert.equal(ok, true)
    assert.match(said, /^answers; getaddrinfo (ENOTFOUND|EAI_AGAIN) nope\.invalid$/)
  }
  start([dead])
  await until(() => lines.length > 0)
  assert.match(lines[0] ?? '', /^redis: down \(.*getaddrinfo (ENOTFOUND|EAI_AGAIN) nope\.invalid/)
})

test('a cluster that loses a node is left, and used again when it is whole', async () => {
  const asked = subjects.map((subject) => charge('20/2h', { subject, what: 'failed logins' }))
  for (const node of nodes) await node.run('CONFIG', 'SET', 'cluster-node-timeout', 1000)
  await nodes[2]!.kill()
  for (const one of asked) await watched.limiter.check([one])
  await untilMemory(watched)
  const { allowed } = await fire(watched, 50, charge('20/2h', { subject: 'anyone' }))
  assert.equal(allowed, 20)
  await nodes[2]!.up()
  await untilRedis(watched)
  assert.match(watched.lines[0] ?? '', /^redis: down/)
  assert.equal(watched.lines.at(-1), 'redis: back')
})
