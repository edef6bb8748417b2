// limits.ini and redis.ini changed while Haraka runs.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Haraka } from './support/haraka'
import { codes, each, redisIni, startLimits, tryMail, tryRcpt, untilRedisCounts } from './support/limits'
import { until } from './support/patience'
import { RedisServer } from './support/redis'

const withLimit = (limit: string, more = '') => `[messages per ip]\nlimit = ${limit}\n${more}`

let redis: RedisServer
let haraka: Haraka
before(async () => {
  redis = await RedisServer.start()
  haraka = await startLimits({ limits: withLimit('4/1h'), redis })
  await untilRedisCounts(haraka, redis)
})
after(async () => {
  await haraka?.stop()
  await redis?.stop()
})

/** Replaces files, and waits until the log says so of each. */
async function change(files: Record<string, string>, says = inForce) {
  const before = haraka.output().length
  for (const [name, text] of Object.entries(files)) haraka.write(`relay-guard/${name}`, text)
  for (const name of Object.keys(files))
    await until(() => says(name).test(haraka.output().slice(before)), `${says(name)}`)
}

const inForce = (name: string) => new RegExp(`${name} was read again and is in force`)

const tries = async (from: string, count: number) => codes(await each(count, () => tryMail(haraka, from)))

test('a changed limit counts what was counted before; an exception and a limit that are put in count', async () => {
  assert.deepEqual(await tries('127.88.0.1', 3), [250, 250, 250])
  assert.deepEqual(await tries('127.88.0.2', 5), [250, 250, 250, 250, 450])
  const added = `127.88.0.2 = 6/1h\n127.88.0.3 = 1/1h\n[recipients per ip]\nlimit = 1/1h\n`
  await change({ 'limits.ini': withLimit('3/1h', added) })
  assert.deepEqual(await tries('127.88.0.1', 1), [450])
  assert.deepEqual(await tries('127.88.0.2', 3), [250, 250, 450])
  assert.deepEqual(await tries('127.88.0.3', 2), [250, 450])
  assert.deepEqual(codes(await each(2, () => tryRcpt(haraka, '127.88.0.4'))), [250, 450])
})

test('a broken file is not in force, nor half of it', async () => {
  const broken = `[messages per ip]\nlimit = 1/1h\n[messages per network]\nlimit = often\n`
  await change({ 'limits.ini': broken }, () => /limits\.ini \[messages per network\] limit: .*often/)
  assert.deepEqual(await tries('127.88.1.1', 4), [250, 250, 250, 450])
})

test('a limit that is taken out ends, and another prefix in redis.ini is where it counts from then on', async () => {
  const limits = '[recipients per ip]\nlimit = 2/1h\n'
  await change({ 'limits.ini': limits, 'redis.ini': redisIni(redis, 'prefix = other:\n') })
  assert.deepEqual(await tries('127.88.1.1', 2), [250, 250])
  const used = (ip: string) => redis.run('HGET', `other:rate:{ip:${ip}}:recipients`, '1h.used')
  await until(
    async () => (await tryRcpt(haraka, '127.88.3.9')).code > 0 && (await used('127.88.3.9')) !== null,
  )
  assert.deepEqual(codes(await each(3, () => tryRcpt(haraka, '127.88.3.1'))), [250, 250, 450])
  assert.equal(await used('127.88.3.1'), '2')
  assert.deepEqual(haraka.failures(), [])
})
