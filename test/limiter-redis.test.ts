import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Redis } from 'ioredis'
import { RedisStore } from '../core/limiter/redis-store'
import { closeRedis, openRedis } from '../core/redis/connection'
import { keepingKeys } from './support/kept-keys'
import { charge, START, step, testStore } from './support/limiter-contract'
import { until } from './support/patience'
import { RedisServer } from './support/redis'

/** Longer than a busy Redis takes: nothing here is about time. */
const TIMEOUT = 30_000

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

async function emptyStore(): Promise<RedisStore> {
  await client.flushall()
  return new RedisStore(client, { prefix: 'relay-guard:', timeout: TIMEOUT })
}

/** Fields `W.used` of all counters. A key without any is one too many. */
const countWindows = `local sum = 0
for _, key in ipairs(redis.call('KEYS', 'relay-guard:rate:*')) do
  local fields, windows = redis.call('HKEYS', key), 0
  for _, field in ipairs(fields) do if string.match(field, '%.used$') then windows = windows + 1 end end
  sum = sum + math.max(windows, 1)
end
return sum`

const keptWindows = async () => Number(await client.eval(countWindows, 0))

const keepingStore = async () => {
  await client.flushall()
  return new RedisStore(keepingKeys(client as Redis), { prefix: 'relay-guard:', timeout: TIMEOUT })
}

testStore('redis', keepingStore, keptWindows)

test('a counter can be read with redis-cli, and has a TTL', async () => {
  const store = await emptyStore()
  const limit = charge('2/1m, 9/1h')
  for (let i = 0; i < 3; i++) await store.step(step([limit]), START)
  const key = 'relay-guard:rate:{ip:203.0.113.9}:messages'
  assert.deepEqual(await client.hgetall(key), {
    '1m.used': '2',
    '1m.limit': '2',
    '1m.leased': '0',
    '1m.parts': `${START / 6000}:2:2`,
    '1h.used': '2',
    '1h.limit': '9',
    '1h.leased': '0',
    '1h.parts': `${START / 360_000}:2:2`,
    refused: '1',
    last: `${START}`,
  })
  const ttl = await client.pttl(key)
  assert.ok(ttl > 3_900_000 && ttl <= 3_960_000, `${ttl}`)
})

test('a write never shortens the TTL, and gives one to a key that lost it', async () => {
  const store = await emptyStore()
  const key = 'relay-guard:rate:{ip:203.0.113.9}:messages'
  await store.step(step([charge('9/1d')]))
  await store.step(step([charge('9/1d'), charge('9/1m')]))
  await store.step(step([charge('9/1m')]))
  assert.ok((await client.pttl(key)) > 86_400_000)
  await client.persist(key)
  await store.step(step([charge('9/1m')]))
  assert.ok((await client.pttl(key)) > 60_000)
})

test('of steps that are asked at once the first goes at once and the others in one write', async () => {
  const store = await emptyStore()
  const reads = async () => Number(/total_reads_processed:(\d+)/.exec(await client.info('stats'))?.[1])
  await store.step(step([charge('100/1h')]))
  const before = await reads()
  await Promise.all(Array.from({ length: 30 }, () => store.step(step([charge('100/1h')]))))
  // One more is that of the question.
  const made = (await reads()) - before
  assert.ok(made <= 3, `${made} reads`)
})

test('an error of a script is the fault of its step; one that says that Redis takes no writes is not', async () => {
  const store = await emptyStore()
  const real = async (script: string, ...args: string[]) =>
    store.blame(await client.eval(script, 1, 'key', ...args).catch((error: unknown) => error))
  assert.equal(
    await real('return {unpack(cjson.decode(ARGV[1]))}', JSON.stringify(Array(9000).fill(1))),
    'step',
  )
  assert.equal(await real("return redis.call('HGET', KEYS[1])"), 'step')
  assert.equal(await real('return nonsense()'), 'step')
  await client.set('key', 'no hash', 'EX', 60)
  assert.equal(await real("return redis.call('HGET', KEYS[1], 'a')"), 'step')
  await client.config('SET', 'maxmemory', '1')
  assert.equal(await real("return redis.call('HSET', KEYS[1], 'a', 1)"), 'store')
  await client.config('SET', 'maxmemory', '0')
  const words = [
    "READONLY You can't write against a read only replica. script: 0a, on @user_script:1.",
    "ERR Error running script (call to f_0a): @user_script:1: @user_script: 1: -READONLY You can't write",
    "NOPERM this user has no permissions to run the 'evalsha' command",
    "ERR The user executing the script can't run this command or subcommand script: 0a, on @user_script:1.",
    'LOADING Redis is loading the dataset in memory',
    'BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.',
    'NOAUTH Authentication required.',
    "ERR unknown command 'evalsha'",
    'connect ECONNREFUSED 127.0.0.1:6379',
  ]
  for (const text of words) assert.equal(store.blame(new Error(text)), 'store', text)
})
