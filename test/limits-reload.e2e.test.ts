// limits.ini and redis.ini changed while Haraka runs.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Haraka } from './support/haraka'
import { codes, each, redisIni, startLimits, tryMail } from './support/limits'
import { RedisServer, until } from './support/redis'

const file = 'relay-guard/limits.ini'
const withLimit = (limit: string, more = '') => `[messages per ip]\nlimit = ${limit}\n${more}`
const soon = 15_000

let redis: RedisServer
let haraka: Haraka
before(async () => {
  redis = await RedisServer.start()
  haraka = await startLimits({ limits: withLimit('4/1h'), redis })
})
after(async () => {
  await haraka?.stop()
  await redis?.stop()
})

/** Replaces a file, and waits until the log says so. */
async function change(name: string, text: string, says: RegExp) {
  const before = haraka.output().length
  haraka.write(name, text)
  await until(() => says.test(haraka.output().slice(before)), soon, `${says}`)
}
const inForce = (name: string) => new RegExp(`${name} was read again and is in force`)

const tries = async (from: string, count: number) => codes(await each(count, () => tryMail(haraka, from)))

test('a smaller limit counts what was counted before, a larger one lets more through, and an exception counts', async () => {
  assert.deepEqual(await tries('127.88.0.1', 3), [250, 250, 250])
  assert.deepEqual(await tries('127.88.0.2', 5), [250, 250, 250, 250, 450])
  await change(file, withLimit('3/1h', '127.88.0.3 = 1/1h\n'), inForce('limits.ini'))
  assert.deepEqual(await tries('127.88.0.1', 1), [450])
  assert.deepEqual(await tries('127.88.0.3', 2), [250, 450])
  await change(file, withLimit('6/1h'), inForce('limits.ini'))
  assert.deepEqual(await tries('127.88.0.2', 3), [250, 250, 450])
})

test('a broken file is not in force, nor half of it', async () => {
  const broken = `[messages per ip]\nlimit = 1/1h\n[messages per network]\nlimit = often\n`
  await change(file, broken, /limits\.ini \[messages per network\] limit: .*often/)
  assert.deepEqual(await tries('127.88.1.1', 7), [250, 250, 250, 250, 250, 250, 450])
})

test('a limit that is taken out ends, and one that is put in begins', async () => {
  await change(file, '[recipients per ip]\nlimit = 1/1h\n', inForce('limits.ini'))
  assert.deepEqual(await tries('127.88.1.1', 2), [250, 250])
  await change(file, withLimit('2/1h'), inForce('limits.ini'))
  assert.deepEqual(await tries('127.88.2.1', 3), [250, 250, 450])
})

test('another prefix in redis.ini is where it counts from then on', async () => {
  await change('relay-guard/redis.ini', redisIni(redis, 'prefix = other:\n'), inForce('redis.ini'))
  const used = () => redis.run('HGET', 'other:rate:{ip:127.88.3.1}:messages', '1h.used')
  await until(
    async () =>
      (await tries('127.88.3.9', 1)).length === 1 &&
      (await redis.run('EXISTS', 'other:rate:{ip:127.88.3.9}:messages')) === 1,
  )
  assert.deepEqual(await tries('127.88.3.1', 3), [250, 250, 450])
  assert.equal(await used(), '2')
  assert.deepEqual(haraka.failures(), [])
})
