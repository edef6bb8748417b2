// A batch that Redis refuses, or half of it, is written later: nothing is lost, and nothing is counted twice.
import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, describe, test } from 'node:test'
import type { Redis } from 'ioredis'
import type { DecisionRecord } from '../core/decision'
import { Journal } from '../core/journal'
import type { RedisSettings } from '../core/redis/endpoint'
import { until } from './support/patience'
import { noRedis, RedisServer, startCluster } from './support/redis'

const NOON = Date.UTC(2026, 9, 1, 12)
const STATS = 'relay-guard:stats:2026-10-01'
const TOP = 'relay-guard:top:recipient.relay-denied:2026-10-01'
const LOG = 'relay-guard:log'
const DENIED = 'recipient.relay-denied'

const denial: DecisionRecord = {
  time: NOON,
  id: '7F3A0C91.2',
  ip: '203.0.113.9',
  plugin: 'relay-guard/domains',
  outcome: DENIED,
  rule: 'domains.ini [main]',
  reply: '550 5.7.1 other.example is not served here',
  accepted: false,
}

let lines: string[] = []
let failures = 0
let now = 0
const open: Journal[] = []

/** Writes when it is told to, by a clock that stands. */
async function openJournal(settings: RedisSettings): Promise<Journal> {
  const journal = new Journal({
    settings,
    stream: () => ({ accepted: false, length: 1000 }),
    state: () => ({ version: '1', store: 'redis', connections: 0, configuration: 'abc' }),
    log: (line) => lines.push(line),
    onFailure: () => failures++,
    clock: { now: () => now, every: () => () => {} },
  })
  open.push(journal)
  if (settings.enabled) await until(() => journal.connected)
  return journal
}

let seconds = 0
/** Each in a second of its own, so that all of them go into the stream. */
function note(journal: Journal, times: number): void {
  for (let i = 0; i < times; i++) journal.note({ ...denial, time: NOON + 1000 * seconds++ })
}

let server: RedisServer
let other: RedisServer
let client: Redis
before(async () => {
  ;[server, other] = await Promise.all([RedisServer.start(), RedisServer.start()])
  client = server.client()
})
beforeEach(async () => {
  await Promise.all([client.flushall(), other.run('FLUSHALL')])
  lines = []
  failures = 0
})
afterEach(async () => {
  await Promise.all(open.splice(0).map((journal) => journal.close()))
})
after(async () => {
  client?.disconnect()
  await Promise.all([server?.stop(), other?.stop()])
})

const written = async (redis = server) => ({
  stats: Number(await redis.run('HGET', STATS, DENIED)),
  top: Number(await redis.run('ZSCORE', TOP, '203.0.113.9')),
  log: Number(await redis.run('XLEN', LOG)),
})
const all = (count: number) => ({ stats: count, top: count, log: count })

describe('while Redis', () => {
  const troubles: [string, () => Promise<unknown>, () => Promise<unknown>, RegExp][] = [
    [
      'is full',
      () => client.config('SET', 'maxmemory', '1'),
      () => client.config('SET', 'maxmemory', '0'),
      /OOM/,
    ],
    [
      'is a replica',
      () => client.call('REPLICAOF', '127.0.0.1', '1'),
      () => client.call('REPLICAOF', 'NO', 'ONE'),
      /READONLY|writeable/,
    ],
    [
      'has too few replicas',
      () => client.config('SET', 'min-replicas-to-write', '1'),
      () => client.config('SET', 'min-replicas-to-write', '0'),
      /NOREPLICAS/,
    ],
    [
      'does not let us write',
      () => client.call('ACL', 'SETUSER', 'default', 'resetkeys'),
      () => client.call('ACL', 'SETUSER', 'default', '~*'),
      /NOPERM/,
    ],
  ]
  for (const [name, begin, end, why] of troubles)
    test(`${name}, all is kept, and written once afterwards`, async () => {
      const journal = await openJournal(server.settings)
      note(journal, 2)
      await journal.flush()
      assert.deepEqual(await written(), all(2))
      await begin()
      try {
        for (let i = 0; i < 3; i++) {
          note(journal, 1)
          await journal.flush()
        }
        assert.ok(failures > 0, 'somebody is told to look after Redis')
        assert.deepEqual(lines, [], 'nothing is said of what is tried again')
        for (let i = 0; i < 3; i++) await journal.flush()
      } finally {
        await end()
      }
      await until(async () => {
        await journal.flush()
        return (await written()).stats === 5
      })
      assert.deepEqual(await written(), all(5))
      for (const line of lines) {
        assert.match(line, why)
        assert.match(line, /what is kept is written later$/)
      }
    })
})

test('scripts that Redis has forgotten are sent again', async () => {
  const journal = await openJournal(server.settings)
  for (let i = 1; i <= 3; i++) {
    note(journal, 1)
    await client.script('FLUSH')
    await journal.flush()
    assert.deepEqual(await written(), all(i))
  }
})

test('of a batch of which half is refused, that half is written later, and the other one not twice', async () => {
  const journal = await openJournal(server.settings)
  await client.call('ACL', 'SETUSER', 'default', 'resetkeys', '~relay-guard:log', '~relay-guard:top*')
  try {
    note(journal, 3)
    await journal.flush()
  } finally {
    await client.call('ACL', 'SETUSER', 'default', '~*')
  }
  assert.deepEqual(await written(), { stats: 0, top: 3, log: 3 })
  await journal.flush()
  await journal.flush()
  assert.deepEqual(await written(), all(3))
})

test('a field that holds no number is left alone, and keeps no other one from being counted', async () => {
  const journal = await openJournal(server.settings)
  await client.hset(STATS, 'mine', 'a text')
  for (let i = 0; i < 3; i++) {
    note(journal, 1)
    journal.note({ ...denial, outcome: 'mine' })
    await journal.flush()
  }
  assert.deepEqual(await client.hgetall(STATS), { mine: 'a text', [DENIED]: '3' })
  assert.equal(lines.length, 1)
  assert.match(lines[0] ?? '', /not an integer/)
})

test('what waits is bounded: the newest entries, and how many are missing', async () => {
  const journal = await openJournal(server.settings)
  await client.config('SET', 'maxmemory', '1')
  try {
    for (let i = 0; i < 300; i++) {
      note(journal, 1)
      if (i % 10 === 0) await journal.flush()
    }
  } finally {
    await client.config('SET', 'maxmemory', '0')
  }
  await journal.flush()
  assert.deepEqual(await written(), { stats: 300, top: 300, log: 201 })
  const [last] = await client.xrevrange(LOG, '+', '-', 'COUNT', 1)
  assert.deepEqual(last?.[1].slice(-4), ['outcome', 'log.left-out', 'left_out', '100'])
})

test('while Redis hangs batches may wait for their answers side by side; all of them count once', async () => {
  const journal = await openJournal(server.settings)
  server.hang()
  const waiting: Promise<void>[] = []
  for (let i = 0; i < 60; i++) {
    note(journal, 1)
    now += 1000
    waiting.push(journal.flush())
  }
  server.goOn()
  await Promise.all(waiting)
  await journal.flush()
  assert.deepEqual(await written(), all(60))
})

test('a Cluster without all of its slots keeps nothing from being written when it has them', async (t) => {
  const { nodes, settings } = await startCluster()
  t.after(() => Promise.all(nodes.map((node) => node.stop())))
  const journal = await openJournal(settings)
  const slot = Number(await nodes[0]!.run('CLUSTER', 'KEYSLOT', STATS))
  const state = async () => `${await nodes[0]!.run('CLUSTER', 'INFO')}`
  const owner = nodes[Math.min(2, Math.floor(slot / 5461))]!
  for (const node of nodes) await node.run('CLUSTER', 'DELSLOTS', slot).catch(() => {})
  await until(async () => (await state()).includes('cluster_state:fail'))
  note(journal, 3)
  await journal.flush()
  await owner.run('CLUSTER', 'ADDSLOTS', slot)
  const counted = async () => {
    const found = await Promise.all(nodes.map((node) => node.run('HGET', STATS, DENIED).catch(() => null)))
    return found.find((each) => each !== null)
  }
  await until(async () => {
    await journal.flush()
    return (await counted()) === '3'
  })
  for (let i = 0; i < 3; i++) await journal.flush()
  assert.equal(await counted(), '3')
  for (const line of lines) assert.match(line, /what is kept is written later$/)
})

test('what is not written when redis.ini changes goes to the new place, and to the old one where there is none', async () => {
  const journal = await openJournal(server.settings)
  note(journal, 2)
  journal.use(other.settings)
  note(journal, 1)
  await until(() => journal.connected)
  await journal.flush()
  assert.deepEqual([await written(server), await written(other)], [all(0), all(3)])
  note(journal, 4)
  journal.use(noRedis)
  note(journal, 8)
  await until(async () => (await written(other)).log === 7)
  assert.deepEqual(await written(other), all(7))
  journal.use(server.settings)
  await until(() => journal.connected)
  note(journal, 1)
  await journal.flush()
  assert.deepEqual(await written(server), all(1))
})
