// What a Haraka decides can be read in Redis, whichever of its plugins decides.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startHaraka } from './support/haraka'
import { RedisServer, until } from './support/redis'
import { SmtpClient } from './support/smtp-client'

test('decisions of acl, auth and domains reach Redis, with the id and the rule of the reply', async () => {
  const redis = await RedisServer.start()
  const client = redis.client()
  const haraka = await startHaraka({
    plugins: ['relay-guard/acl', 'relay-guard/auth', 'relay-guard/domains'],
    files: {
      'redis.ini': `[server]\nhost=127.0.0.1\nport=${redis.port}\n`,
      'relay-guard/redis.ini': '[redis]\nprefix = mx:\n',
      'relay-guard/acl.ini': '[reject]\n127.0.0.66 = known spammer\n',
    },
  })
  try {
    const rejected = await SmtpClient.connect({ port: haraka.port, from: '127.0.0.66' })
    rejected.destroy()
    const stranger = await SmtpClient.connect({ port: haraka.port, from: '127.0.0.7' })
    await stranger.ehlo()
    await stranger.command('MAIL FROM:<a@sender.example>')
    const { text } = await stranger.command('RCPT TO:<b@Other.Example>')
    await stranger.command('AUTH PLAIN AGFsaWNlAHNlY3JldA==')
    stranger.destroy()
    await until(async () => (await client.xlen('mx:log')) === 3)
    const entries = (await client.xrange('mx:log', '-', '+')).map(([, fields]) =>
      Object.fromEntries(fields.flatMap((name, i) => (i % 2 ? [] : [[name, fields[i + 1]]]))),
    )
    const denied = entries.find(({ plugin }) => plugin === 'relay-guard/domains')
    assert.equal(denied?.['id'], /\(id (\S+)\)/.exec(text)?.[1])
    assert.equal(denied?.['outcome'], 'recipient.relay-denied')
    assert.equal(denied?.['to'], 'b@Other.Example')
    assert.match(denied?.['rule'] ?? '', /^domains\.ini \[/)
    const known = entries.find(({ plugin }) => plugin === 'relay-guard/acl')
    assert.equal(known?.['rule'], 'acl.ini [reject] 127.0.0.66')
    assert.match(known?.['reply'] ?? '', /^554 5\.7\.1 .*known spammer/)
    assert.ok(entries.some(({ plugin }) => plugin === 'relay-guard/auth'))
    // Redis is sent the script when it does not know it yet, so these may come a moment after the stream.
    const today = new Date().toISOString().slice(0, 10)
    await until(async () => (await client.hget(`mx:stats:${today}`, 'recipient.relay-denied')) === '1')
    await until(
      async () => (await client.zscore(`mx:top:connection.rejected:${today}`, '127.0.0.66')) === '1',
    )
    await until(async () => (await client.keys('mx:node:*')).length === 1)
  } finally {
    await haraka.stop()
    client.disconnect()
    await redis.stop()
  }
})
