// What workers hold in advance when Redis is emptied, paused, killed, or told by hand to block somebody.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Redis } from 'ioredis'
import type { Charge } from '../core/limiter/contract'
import { untilHeard } from './support/heard'
import { leased, standing, untilListening, Workers } from './support/leased'
import { makeLimiter, untilMemory, untilRedis, type Watched } from './support/limiter'
import { charge } from './support/limiter-contract'
import { until } from './support/patience'
import { RedisServer } from './support/redis'

const L = 500
// What is held ends with a tenth of the window: of a week none ends in the middle of a test.
const KEY = { scope: 'ip', subject: '203.0.113.9' }
let server: RedisServer
let redis: Redis
const workers = new Workers(() => server)

before(async () => {
  server = await RedisServer.start()
  redis = server.client()
  await redis.ping()
})
after(async () => {
  await workers.close()
  redis.disconnect()
  await server.stop()
})

const messages = () => leased(`${L}/7d`)
const isAllowed = async ({ limiter }: Watched, asked: Charge = messages()) =>
  (await limiter.check([asked])).allowed

/** How many of `tries` get through, each worker in its turn. */
async function spend(all: Watched[], tries: number): Promise<number> {
  let through = 0
  for (let i = 0; i < tries; i++) if (await isAllowed(all[i % all.length]!)) through++
  return through
}

test('after FLUSHALL at most what was held in advance gets through beside the limit', async () => {
  const [one, two] = await workers.make(2, 'flush:')
  const before = await spend([one, two], 100)
  const held = (await standing(redis, 'flush:', '7d')).used - before
  assert.ok(held > 0)
  await redis.flushall()
  const after = await spend([one, two], 2 * L)
  assert.ok(after <= L + held, `${after} with ${held} held`)
  // What is granted between FLUSHALL and the word of it stays charged: it may be of before.
  assert.ok(after >= L - 2 * 64, `${after}`)
})

test('whoever is blocked by hand is refused by a worker that held everything in advance, until the key goes', async () => {
  const [one, two] = await workers.make(2, 'hand:')
  await spend([one], 30)
  const block = async () => {
    const key = 'hand:block:{ip:203.0.113.9}'
    const until = Date.now() + 60_000
    await redis.hset(key, { reason: 'by hand', since: Date.now(), until, by: 'me' })
    await redis.pexpireat(key, until)
  }
  const lifts: (() => Promise<unknown>)[] = [
    () => redis.del('hand:block:{ip:203.0.113.9}'),
    () => two.limiter.unblock(KEY),
  ]
  for (const lift of lifts) {
    await block()
    await until(async () => !(await isAllowed(one)), 'the block')
    // Of both commands of the block it hears, of the second one maybe after the first refusal.
    await untilHeard(redis)
    assert.equal(await isAllowed(one), false)
    assert.equal((await one.limiter.check([messages()])).source, 'remembered')
    await lift()
    await until(() => isAllowed(one), 'the end of the block')
  }
})

test('reset by another worker ends what is held and what was refused', async () => {
  const [one, two] = await workers.make(2, 'reset:')
  assert.equal(await spend([one], L + 1), L)
  await two.limiter.reset(KEY)
  await until(() => isAllowed(one), 'the reset')
  await spend([one], 50)
  const before = await standing(redis, 'reset:', '7d')
  assert.ok(before.leased > 0)
  await two.limiter.reset(KEY)
  // What was held is not spent after it: the next message is asked for and charged.
  await until(async () => {
    await isAllowed(one)
    return (await standing(redis, 'reset:', '7d')).used > 0
  })
  const { used, leased: ahead } = await standing(redis, 'reset:', '7d')
  assert.ok(used > 0 && ahead <= used)
})

test('a name that was blocked before a worker started is refused, and one that is blocked later', async () => {
  const of = (subject: string, limit = `${L}/7d`) => leased(limit, { scope: 'user', subject })
  const block = (name: string) =>
    redis.hset(`names:block:{user:${name}}`, { reason: 'x', since: 0, until: Date.now() + 60_000, by: 'me' })
  await block('early')
  const [one] = await workers.make(1, 'names:')
  const commands = async () => /cmdstat_evalsha:calls=(\d+)/.exec(`${await redis.info('commandstats')}`)?.[1]
  // Once it knows all blocked names, it asks for no other one.
  const isKnown = async () => {
    const before = await commands()
    assert.equal(await isAllowed(one, of('nobody', 'unlimited')), true)
    return (await commands()) === before
  }
  await until(isKnown, 'the list of blocked names')
  for (const limit of ['unlimited', `${L}/7d`]) {
    assert.equal(await isAllowed(one, of('early', limit)), false)
    assert.equal(await isAllowed(one, of('late', limit)), true)
  }
  await block('late')
  await until(async () => !(await isAllowed(one, of('late', 'unlimited'))), 'the block')
  assert.equal(await isAllowed(one, of('other')), true)
})

for (const missing of [['resetchannels'], ['-client|tracking'], ['-scan', '-dbsize']]) {
  test(`a Redis user with ${missing} counts exactly, and is told of in one line at most`, async () => {
    const user = `u${missing[0]!.length}`
    await redis.call('ACL', 'SETUSER', user, 'reset', 'on', '>secret', '~*', '&*', '+@all', ...missing)
    const base = { ...server.settings.base, username: user, password: 'secret' }
    const watched = makeLimiter({ ...server.settings, prefix: `${user}:`, base })
    try {
      await untilRedis(watched)
      const isHeard = !missing[0]!.includes('scan')
      if (isHeard) await until(() => watched.lines.length > 0, 'a line')
      assert.equal(await spend([watched], L + 5), L)
      const told = watched.lines.filter((line) => line.startsWith('redis: cannot listen ('))
      assert.equal(told.length, isHeard ? 1 : 0, watched.lines.join('\n'))
      assert.equal(watched.lines.length, told.length)
    } finally {
      await watched.limiter.close()
    }
  })
}

test('a Redis that is paused lets at most the limit through twice, and all is as before afterwards', async () => {
  const watched = makeLimiter({ ...server.settings, prefix: 'pause:', timeout: 1000 })
  try {
    await untilRedis(watched)
    await untilListening(watched)
    const before = await spend([watched], 200)
    server.hang()
    await untilMemory(watched)
    const meanwhile = await spend([watched], 2 * L)
    server.goOn()
    await untilRedis(watched)
    await untilListening(watched)
    const after = await spend([watched], 2 * L)
    assert.ok(before + meanwhile + after <= 2 * L, `${before} + ${meanwhile} + ${after}`)
    assert.equal(await isAllowed(watched, leased('9/7d', { subject: 'new' })), true)
  } finally {
    server.goOn()
    await watched.limiter.close()
  }
})

test('a Redis that is killed and comes back empty lets at most the limit through each time', async () => {
  const other = await RedisServer.start()
  const watched = makeLimiter({ ...other.settings, prefix: 'kill:' })
  try {
    await untilRedis(watched)
    await untilListening(watched)
    const before = await spend([watched], 200)
    await other.kill()
    await untilMemory(watched)
    const meanwhile = await spend([watched], 2 * L)
    // What was granted in advance, and so charged in Redis, may still be spent beside the memory.
    assert.ok(before + meanwhile <= 2 * L && meanwhile <= L + 64, `${before} + ${meanwhile}`)
    await other.up()
    await untilRedis(watched)
    await untilListening(watched)
    await until(() => isAllowed(watched), 'an empty Redis to allow')
    assert.ok((await spend([watched], 2 * L)) <= L)
    assert.equal(await isAllowed(watched, charge('9/7d', { subject: 'new' })), true)
  } finally {
    await watched.limiter.close()
    await other.stop()
  }
})
