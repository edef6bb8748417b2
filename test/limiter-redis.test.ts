import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { RedisStore } from '../core/limiter/redis-store'
import { closeRedis, openRedis } from '../core/redis/connection'
import { charge, START, step, testStore } from './support/limiter-contract'
import { RedisServer, until } from './support/redis'

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
  return new RedisStore(client, { prefix: 'relay-guard:', timeout: 250 })
}

testStore('redis', emptyStore)

test('a counter can be read with redis-cli, and has a TTL', async () => {
  const store = await emptyStore()
  const limit = charge('2/1m, 9/1h')
  for (let i = 0; i < 3; i++) await store.step(step([limit]), START)
  const key = 'relay-guard:rate:{ip:203.0.113.9}:messages'
  assert.deepEqual(await client.hgetall(key), {
    '1m.used': '2',
    '1m.limit': '2',
    '1m.parts': `${START / 6000}:2:2`,
    '1h.used': '2',
    '1h.limit': '9',
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
