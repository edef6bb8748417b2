// Redis, limiter and journal of a real Haraka: while redis.ini changes, when it stops, and when it does not start.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startHarakaExpectingFailure } from './support/haraka'
import { begin, counted, reachedIn } from './support/journal'
import { redisIni } from './support/limits'
import { until } from './support/patience'
import { freePort } from './support/ports'
import { RedisServer } from './support/redis'
import { SmtpClient } from './support/smtp-client'

test('redis.ini is reloaded under open connections: the limit of connections holds, in the new place, too', async (t) => {
  const { haraka, redis, run } = await begin(t, {
    plugins: ['relay-guard/limits'],
    files: { 'relay-guard/limits.ini': '[concurrent connections per ip]\nlimit = 3\n' },
  })
  const open = await Promise.all(
    [1, 2, 3].map(() => SmtpClient.connect({ port: haraka.port, from: '127.0.0.7' })),
  )
  t.after(() => {
    for (const client of open) client.destroy()
  })
  for (const client of open) assert.equal((await client.ehlo()).code, 250)
  const isRefused = async () => {
    const client = await SmtpClient.connect({ port: haraka.port, from: '127.0.0.7' })
    client.destroy()
    assert.equal(client.greeting.code, 421)
  }
  const key = 'concurrent:{ip:127.0.0.7}'
  const reload = async (text: string, count: number) => {
    haraka.write('relay-guard/redis.ini', text)
    await until(() => (haraka.output().match(/redis\.ini was read again/g)?.length ?? 0) === count)
    await isRefused()
  }
  await isRefused()
  await reload(redisIni(redis, 'prefix = mx:\n[log]\nlength = 500\n'), 1)
  assert.equal(await run('ZCARD', `mx:${key}`), 3)
  await reload(redisIni(redis, 'prefix = other:\n'), 2)
  await until(
    async () => (await run('ZCARD', `other:${key}`)) === 3 && (await run('ZCARD', `mx:${key}`)) === 0,
  )
  await isRefused()
  assert.equal(reachedIn(haraka), 2)
})

test('a start that fails half way ends, and leaves nothing in Redis', async (t) => {
  const redis = await RedisServer.start()
  t.after(() => redis.stop())
  const { code, output } = await startHarakaExpectingFailure({
    plugins: ['relay-guard/acl', 'relay-guard/limits', 'relay-guard/domains'],
    files: {
      'relay-guard/redis.ini': redisIni(redis, 'prefix = mx:\n'),
      'relay-guard/limits.ini': '[messages per ip]\nlimit = many\n',
    },
  })
  assert.notEqual(code, 0)
  assert.match(output, /limits\.ini \[messages per ip\] limit: /)
  const keys = (await redis.run('KEYS', '*')) as string[]
  assert.deepEqual(
    keys.filter((key) => !key.includes('probe')),
    [],
  )
})

for (const nodes of [0, 1, 2])
  test(`stopped with nodes = ${nodes}, leases are given back and the last statistics are written`, async (t) => {
    const listen = `127.0.0.1:${await freePort()}`
    const { haraka, redis, run } = await begin(t, {
      plugins: ['relay-guard/acl', 'relay-guard/limits'],
      nodes,
      listen,
      files: {
        'smtp.ini': `listen=${listen}\nnodes=${nodes}\ngraceful_shutdown=true\n`,
        'relay-guard/acl.ini': '[reject]\n127.0.0.66\n',
        'relay-guard/limits.ini': '[concurrent connections per ip]\nlimit = 3\n',
      },
    })
    await until(() => reachedIn(haraka) === Math.max(1, nodes), 'one line a worker')
    const client = await SmtpClient.connect({ port: haraka.port, from: '127.0.0.7' })
    t.after(() => client.destroy())
    await client.ehlo()
    assert.equal(await run('ZCARD', 'mx:concurrent:{ip:127.0.0.7}'), 1)
    const rejected = await SmtpClient.connect({ port: haraka.port, from: '127.0.0.66' })
    rejected.destroy()
    haraka.kill('SIGINT')
    await until(async () => (await counted({ redis }, 'connection.rejected')) === 1)
    await until(async () => (await run('ZCARD', 'mx:concurrent:{ip:127.0.0.7}')) === 0, 'giving back')
    client.destroy()
    assert.deepEqual(haraka.failures(), [])
  })
