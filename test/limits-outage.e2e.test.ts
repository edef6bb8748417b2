// A real Haraka whose Redis fails in every way: limits hold all the time, and it comes back by itself.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Haraka } from './support/haraka'
import { only, sessionFrom, startLimits } from './support/limits'
import { until } from './support/patience'
import { freePort } from './support/ports'
import { RedisServer } from './support/redis'
import type { SmtpClient } from './support/smtp-client'

const limits = [
  '[messages per ip]\nlimit = 3/1h\n',
  only('concurrent connections per ip', '127.86.0.1 = 1'),
  '[bytes per recipient domain]\nlimit = 1G/1h\n',
].join('')

let redis: RedisServer
let haraka: Haraka
let held: SmtpClient
before(async () => {
  redis = await RedisServer.start()
  await redis.kill()
  // Longer than a busy Redis takes, and each failure must cost it.
  haraka = await startLimits({ limits, redis, timeout: '2s' })
  held = await sessionFrom(haraka, '127.86.0.1')
})
after(async () => {
  held?.destroy()
  await haraka?.stop()
  await redis?.stop()
})

const lines = (pattern: RegExp): number => haraka.output().match(new RegExp(pattern, 'g'))?.length ?? 0
const downs = () => lines(/redis: down/)
const backs = () => lines(/redis: back/)

/** How many of `count` messages get through. */
async function messages(from: string, count: number): Promise<number> {
  const client = await sessionFrom(haraka, from)
  let passed = 0
  for (let tried = 0; tried < count; tried++) {
    const { code } = await client.command('MAIL FROM:<a@b.test>')
    assert.ok(code === 250 || code === 450, `${code}`)
    if (code === 250) passed++
    await client.command('RSET')
  }
  client.destroy()
  return passed
}

const counted = async (from: string) =>
  Number(await redis.run('HGET', `relay-guard:rate:{ip:${from}}:messages`, '1h.used'))

interface Failure {
  name: string
  fail(): unknown
  mend(): unknown
}

const failures: Failure[] = [
  {
    name: 'is not there at the start',
    // A new connection has a second before it counts as down.
    fail: () => until(async () => (await messages('127.85.99.1', 1)) >= 0 && downs() === 1),
    mend: () => redis.up(),
  },
  { name: 'hangs', fail: () => redis.hang(), mend: () => redis.goOn() },
  { name: 'is killed and started again, empty', fail: () => redis.kill(), mend: () => redis.up() },
  {
    name: 'keeps its clients waiting',
    fail: () => redis.run('CLIENT', 'PAUSE', 6000, 'ALL'),
    mend: () => {},
  },
  {
    name: 'became a replica, and takes no writes',
    fail: async () => redis.run('REPLICAOF', '127.0.0.1', await freePort()),
    mend: () => redis.run('REPLICAOF', 'NO', 'ONE'),
  },
  {
    name: 'is full',
    fail: () => redis.run('CONFIG', 'SET', 'maxmemory', 1),
    mend: () => redis.run('CONFIG', 'SET', 'maxmemory', 0),
  },
]

describe('while Redis', () => {
  for (const [index, { name, fail, mend }] of failures.entries()) {
    test(`${name}, limits hold, and it is used again soon after`, async () => {
      const from = `127.85.${index}.1`
      // The first state is a failure already: nothing was counted before.
      const before = index ? 2 : 0
      if (index) assert.equal(await messages(from, before), 2)
      await fail()
      assert.equal(await messages(from, 6), 3)
      assert.equal(await messages(`127.85.${index}.2`, 5), 3)
      const second = await sessionFrom(haraka, '127.86.0.1').then(
        () => 'let in',
        (error: Error) => error.message,
      )
      assert.match(second, /421 4\.7\.0 Too many concurrent connections/)
      await mend()
      await until(() => backs() === index + 1, 'the way back')
      assert.equal(downs(), index + 1)
      const fresh = `127.85.${index}.3`
      assert.equal(await messages(fresh, 5), 3)
      assert.equal(await counted(fresh), 3)
    })
  }
})

test('a connection that was open all the while has its lease in the Redis that started empty', async () => {
  await until(async () => (await redis.run('ZCARD', 'relay-guard:concurrent:{ip:127.86.0.1}')) === 1)
})

test('a script that Redis has forgotten is sent again, and nothing is logged of it', async () => {
  await redis.run('SCRIPT', 'FLUSH')
  assert.equal(await messages('127.85.100.1', 5), 3)
  assert.equal(await counted('127.85.100.1'), 3)
})

test('counters that FLUSHALL took begin again, and Haraka goes on', async () => {
  await redis.run('FLUSHALL')
  assert.equal(await messages('127.85.101.1', 5), 3)
  assert.equal(downs(), failures.length)
})

test('a message to 8,200 domains is counted for each of them, and Redis goes on counting', async () => {
  const [before, count] = [downs(), 8200]
  const client = await sessionFrom(haraka, '127.85.103.1')
  assert.equal((await client.command('MAIL FROM:<a@b.test>')).code, 250)
  for (let first = 0; first < count; first += 200) {
    const lines = Array.from({ length: 200 }, (_, i) => `RCPT TO:<a@d${first + i}.test>`)
    const replies = await client.pipeline(lines)
    assert.deepEqual([...new Set(replies.map(({ code }) => code))], [250])
  }
  assert.equal((await client.command('DATA')).code, 354)
  assert.equal((await client.command('Subject: x\r\n\r\nx\r\n.')).code, 250)
  await client.quit()
  const key = (i: number) => `relay-guard:rate:{recipient-domain:d${i}.test}:bytes`
  for (const i of [0, 4000, count - 1]) assert.equal(await redis.run('EXISTS', key(i)), 1)
  assert.equal(downs(), before)
  assert.equal(await messages('127.85.104.1', 5), 3)
  assert.equal(await counted('127.85.104.1'), 3)
})

test('a password that Redis wants all of a sudden is one line in the log, and counting goes on', async () => {
  // Connected before: who comes now is asked for the password.
  const admin = redis.client()
  await admin.config('SET', 'requirepass', 'secret')
  const before = downs()
  await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
  await until(() => downs() > before)
  assert.equal(await messages('127.85.102.1', 6), 3)
  assert.equal(downs(), before + 1)
  admin.disconnect()
})

test('nothing of all this has failed in the log or flooded it', () => {
  assert.deepEqual(haraka.failures(), [])
  assert.ok(lines(/relay-guard\/limits\] .*redis/) <= 2 * failures.length + 4)
})
