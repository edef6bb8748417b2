import assert from 'node:assert/strict'
import { hostname } from 'node:os'
import { after, afterEach, before, beforeEach, describe, test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Redis } from 'ioredis'
import type { DecisionRecord } from '../core/decision'
import { type Clock, Journal } from '../core/journal'
import type { RedisSettings } from '../core/redis/endpoint'
import { until } from './support/patience'
import { noRedis, RedisServer, startCluster } from './support/redis'

const NOON = Date.UTC(2026, 9, 1, 12)
const NODE = `${hostname()}/${process.pid}`
const NODE_KEY = `relay-guard:node:${hostname()}:${process.pid}`
const STATS = 'relay-guard:stats:2026-10-01'
const TOP = 'relay-guard:top:recipient.relay-denied:2026-10-01'
const LOG = 'relay-guard:log'

const denial: DecisionRecord = {
  time: NOON,
  id: '7F3A0C91.2',
  ip: '203.0.113.9',
  from: 'a@sender.example',
  to: 'b@other.example',
  plugin: 'relay-guard/domains',
  outcome: 'recipient.relay-denied',
  rule: 'domains.ini [main]',
  reply: '550 5.7.1 other.example is not served here',
  accepted: false,
}
const accepted: DecisionRecord = {
  time: NOON,
  id: '7F3A0C91.3',
  ip: '203.0.113.9',
  plugin: 'relay-guard/domains',
  outcome: 'recipient.accepted',
  rule: 'domains.ini [example.com]',
  accepted: true,
}
const numbered = (i: number) => `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`
const fieldsOf = ([, fields]: [string, string[]]) =>
  Object.fromEntries(fields.flatMap((name, i) => (i % 2 ? [] : [[name, fields[i + 1]]])))

let lines: string[] = []
const open: Journal[] = []

/** Nothing is written but what a test flushes. */
const standing: Clock = { now: () => 0, every: () => () => {} }

function openJournal(
  settings: RedisSettings,
  stream = { accepted: false, length: 1000 },
  clock?: Clock,
): Journal {
  const state = { version: '1.2.3', store: 'redis', connections: 7, configuration: 'abc' } as const
  const journal = new Journal({
    settings,
    stream: () => stream,
    state: () => state,
    log: (line) => lines.push(line),
    ...(clock && { clock }),
  })
  open.push(journal)
  return journal
}

afterEach(async () => {
  await Promise.all(open.splice(0).map((journal) => journal.close()))
  lines = []
})

describe('with a Redis that answers', () => {
  let server: RedisServer
  let client: Redis
  before(async () => {
    server = await RedisServer.start()
    client = server.client()
  })
  beforeEach(() => client.flushall())
  after(async () => {
    client.disconnect()
    await server.stop()
  })

  const written = async (stream?: { accepted: boolean; length: number }) => {
    const journal = openJournal(server.settings, stream, standing)
    await until(async () => {
      await journal.flush()
      return (await client.exists(NODE_KEY)) === 1
    })
    return journal
  }
  const logged = async () => (await client.xrange(LOG, '-', '+')).map(fieldsOf)

  test('a decision is counted, ranked and logged, and the worker is known, each with a TTL', async () => {
    const journal = await written()
    journal.note(denial)
    journal.note({ ...denial, subject: 'alice@example.com' })
    journal.note(accepted)
    await journal.flush()
    assert.deepEqual(await client.hgetall(STATS), {
      'recipient.relay-denied': '2',
      'recipient.accepted': '1',
    })
    assert.deepEqual(await client.zrange(TOP, 0, '-1'), ['203.0.113.9', 'alice@example.com'])
    const { accepted: _, time, ...rest } = denial
    const entry = { time: new Date(time).toISOString(), node: NODE, ...rest }
    assert.deepEqual(await logged(), [entry, entry])
    const { since = '', ...node } = await client.hgetall(NODE_KEY)
    assert.deepEqual(node, { version: '1.2.3', store: 'redis', connections: '7', configuration: 'abc' })
    assert.ok(Math.abs(Date.parse(since) - Date.now()) < 60_000)
    const ttls = await Promise.all([STATS, TOP, NODE_KEY].map((key) => client.ttl(key)))
    assert.ok(ttls[0]! > 89 * 86_400 && ttls[1]! > 89 * 86_400 && ttls[2]! > 20 && ttls[2]! <= 30, `${ttls}`)
    const all = await client.keys('*')
    assert.deepEqual(all.sort(), [LOG, NODE_KEY, STATS, TOP, TOP.replace('relay-denied', 'accepted')].sort())
  })

  test('it is written each second by itself, and the rest at the end', async () => {
    const journal = openJournal(server.settings)
    journal.note(denial)
    await until(async () => (await client.hget(STATS, 'recipient.relay-denied')) === '1')
    for (let i = 0; i < 300; i++) journal.note({ ...denial, ip: numbered(i) })
    await journal.close()
    assert.equal(await client.hget(STATS, 'recipient.relay-denied'), '301')
    assert.equal(await client.zcard(TOP), 301)
  })

  test('a decision counts for its own day (UTC)', async () => {
    const journal = await written()
    journal.note({ ...denial, time: Date.UTC(2026, 9, 1, 23, 59, 59, 999) })
    journal.note({ ...denial, time: Date.UTC(2026, 9, 2) })
    await journal.flush()
    assert.equal(await client.hget(STATS, 'recipient.relay-denied'), '1')
    assert.equal(await client.hget('relay-guard:stats:2026-10-02', 'recipient.relay-denied'), '1')
  })

  test('acceptances are in the stream only where [log] says so', async () => {
    const journal = await written({ accepted: true, length: 1000 })
    journal.note(accepted)
    await journal.flush()
    assert.deepEqual(
      (await logged()).map(({ outcome }) => outcome),
      ['recipient.accepted'],
    )
  })

  test('a flood leaves a few entries of each kind in the stream, and how many were left out', async () => {
    const journal = await written()
    for (let i = 0; i < 500; i++) journal.note({ ...denial, outcome: 'connection.rejected', ip: numbered(i) })
    for (let i = 0; i < 500; i++) journal.note(denial)
    await journal.flush()
    const entries = await logged()
    const of = (outcome: string) => entries.filter((entry) => entry['outcome'] === outcome).length
    assert.equal(of('connection.rejected'), 10)
    assert.equal(of('recipient.relay-denied'), 2)
    assert.deepEqual([entries.at(-1)?.['outcome'], entries.at(-1)?.['left_out']], ['log.left-out', '988'])
    journal.note({ ...denial, time: NOON + 1000 })
    await journal.flush()
    assert.equal((await logged()).at(-1)?.['outcome'], 'recipient.relay-denied')
  })

  test('a flood from thousands of addresses writes the heaviest few, and Redis runs few commands', async () => {
    const journal = await written()
    await client.config('RESETSTAT')
    for (let i = 0; i < 5000; i++) journal.note({ ...denial, ip: numbered(i) })
    for (let i = 0; i < 3; i++) journal.note({ ...denial, ip: '203.0.113.9' })
    for (let i = 0; i < 3; i++) journal.note({ ...denial, ip: numbered(4000) })
    await journal.flush()
    assert.equal(await client.zcard(TOP), 50)
    assert.deepEqual(await client.zrevrange(TOP, 0, 0, 'WITHSCORES'), [numbered(4000), '4'])
    assert.equal(await client.hget(STATS, 'recipient.relay-denied'), '5006')
    const calls = (await client.info('commandstats')).matchAll(/^cmdstat_\S+?:calls=(\d+)/gm)
    const total = [...calls].reduce((sum, [, count]) => sum + Number(count), 0)
    assert.ok(total < 100, `${total} commands`)
  })

  test('the stream keeps about its length, a top set a thousand members with the highest counts', async () => {
    const journal = await written({ accepted: false, length: 200 })
    for (let second = 0; second < 60; second++) {
      for (let i = 0; i < 20; i++)
        journal.note({ ...denial, time: NOON + second * 1000, outcome: `o${i % 4}`, ip: numbered(i) })
      await journal.flush()
    }
    const length = await client.xlen(LOG)
    assert.ok(length >= 200 && length < 400, `${length}`)
    for (let i = 0; i < 2400; i++) journal.note({ ...denial, ip: numbered(i % 1200) })
    await journal.flush(Number.POSITIVE_INFINITY)
    for (let i = 0; i < 900; i++) journal.note({ ...denial, ip: numbered(i + 5000) })
    await journal.flush(Number.POSITIVE_INFINITY)
    assert.equal(await client.zcard(TOP), 1000)
    assert.equal(await client.zcount(TOP, 2, 2), 1000)
  })

  test('names that strangers choose stay names', async () => {
    const journal = await written()
    const hostile = ['}{', 'a b\r\nDEL x', '__proto__', 'İ', 'x'.repeat(65_536), '\ud800', '*']
    for (const [i, subject] of hostile.entries())
      journal.note({ ...denial, time: NOON + i * 1000, subject, to: subject })
    await journal.flush()
    const members = await client.zrange(TOP, 0, '-1')
    assert.equal(members.length, hostile.length)
    for (const member of members) assert.match(member, /^[a-zA-Z0-9.@:_+=%~-]{1,200}$/)
    const entries = await logged()
    assert.equal(entries.length, hostile.length)
    for (const { to = '' } of entries) assert.match(to, /^[^\r\n\0]{1,400}$/)
  })

  test('keys of the operator with the same names are left as they are, and the rest is written', async () => {
    for (const key of [STATS, LOG]) await client.set(key, 'mine')
    await client.lpush(TOP, 'mine')
    const journal = await written()
    for (let i = 0; i < 5; i++) {
      journal.note(denial)
      journal.note({ ...denial, outcome: 'connection.rejected' })
      await journal.flush()
    }
    const types = [STATS, LOG, TOP].map(async (key) => [await client.type(key), await client.ttl(key)])
    assert.deepEqual(await Promise.all(types), [
      ['string', -1],
      ['string', -1],
      ['list', -1],
    ])
    assert.deepEqual(
      await client.zrange('relay-guard:top:connection.rejected:2026-10-01', 0, '-1', 'WITHSCORES'),
      ['203.0.113.9', '5'],
    )
    assert.equal(lines.length, 1)
    assert.match(lines[0]!, /WRONGTYPE/)
  })
})

describe('with a Redis that goes away', () => {
  let server: RedisServer
  beforeEach(async () => {
    server = await RedisServer.start()
  })
  afterEach(() => server.stop())

  test('counts wait for its return, entries as far as they fit, and nothing is said', async () => {
    const journal = openJournal(server.settings)
    await until(async () => (await server.run('EXISTS', NODE_KEY)) === 1)
    await server.kill()
    // The connection must have noticed, or a batch may be sent in vain.
    await until(async () => {
      await journal.flush()
      return !journal.connected
    })
    for (let second = 0; second < 300; second++) {
      for (let i = 0; i < 4; i++) journal.note({ ...denial, time: NOON + second * 1000, ip: numbered(i) })
    }
    await server.up()
    await until(async () => (await server.run('HGET', STATS, 'recipient.relay-denied')) === '1200')
    const entries = await server.run('XRANGE', LOG, '-', '+')
    assert.equal((entries as unknown[]).length, 201)
    assert.deepEqual((entries as [string, string[]][]).at(-1)?.[1].slice(-2), ['left_out', '1000'])
    assert.equal(await server.run('EXISTS', NODE_KEY), 1)
    assert.deepEqual(lines, [])
  })

  test('minutes of a flood of new addresses take no memory, and a decision little time', async () => {
    const journal = openJournal({ ...noRedis, enabled: true, base: { host: '127.0.0.1', port: 1 } })
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    const flood = (from: number, to: number) => {
      for (let i = from; i < to; i++)
        journal.note({ ...denial, time: NOON + i / 5, ip: numbered(i), from: `${i}@flood.example` })
    }
    flood(0, 50_000)
    collect()
    const before = process.memoryUsage().heapUsed
    const began = process.cpuUsage()
    flood(50_000, 350_000)
    const { user } = process.cpuUsage(began)
    collect()
    const grown = process.memoryUsage().heapUsed - before
    assert.ok(grown < 1_000_000, `${grown} bytes more`)
    assert.ok(user / 300_000 < 50, `${user / 300_000} µs a decision`)
  })

  test('where Redis is switched off nothing is kept', async () => {
    const journal = openJournal(noRedis)
    journal.note(denial)
    await journal.flush()
    assert.equal(journal.connected, false)
  })
})

test('on a Cluster each key finds its node', async () => {
  const { nodes, settings } = await startCluster()
  try {
    const journal = openJournal(settings)
    await until(() => journal.connected)
    for (let i = 0; i < 30; i++) journal.note({ ...denial, outcome: `outcome-${i}`, time: NOON + i * 1000 })
    await journal.flush()
    await journal.close()
    const keys = await Promise.all(nodes.map((node) => node.run('KEYS', '*') as Promise<string[]>))
    assert.ok(keys.every((some) => some.length > 0))
    const names = keys.flat()
    assert.equal(names.filter((name) => name.startsWith('relay-guard:top:')).length, 30)
    for (const name of [STATS, LOG, NODE_KEY]) assert.ok(names.includes(name), name)
    assert.deepEqual(lines, [])
  } finally {
    await Promise.all(nodes.map((node) => node.stop()))
  }
})
