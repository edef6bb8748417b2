// What a Haraka decides, and who is running, can be read in Redis, whichever of its lines of ours are loaded.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Redis } from 'ioredis'
import { begin, counted, reachedIn, told } from './support/journal'
import { until } from './support/patience'
import { SmtpClient } from './support/smtp-client'

test('decisions of acl, auth and domains reach Redis, with the id and the rule of the reply', async (t) => {
  const { haraka, redis } = await begin(t, {
    plugins: ['relay-guard/acl', 'relay-guard/auth', 'relay-guard/domains'],
    files: { 'relay-guard/acl.ini': '[reject]\n127.0.0.66 = known spammer\n' },
  })
  const client = redis.client()
  t.after(() => client.disconnect())
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
  await until(async () => (await counted({ redis }, 'recipient.relay-denied')) === 1)
  await until(async () => {
    const [key = ''] = await client.keys('mx:top:connection.rejected:*')
    return (await client.zscore(key, '127.0.0.66')) === '1'
  })
})

const alone: {
  line: string
  files: Record<string, string>
  say: string[]
  outcome: string
  inForce: string
}[] = [
  {
    line: 'acl',
    files: { 'relay-guard/acl.ini': '[reject]\n127.0.0.66\n[relay]\n127.1.0.0/16\n' },
    say: [],
    outcome: 'connection.rejected',
    inForce: '2 acl entries',
  },
  { line: 'auth', files: {}, say: ['AUTH PLAIN AGFsaWNlAHNlY3JldA=='], outcome: 'auth.', inForce: '0 users' },
  {
    line: 'domains',
    files: { 'relay-guard/domains.ini': '[a.example]\ndelivery = plugin\n' },
    say: ['MAIL FROM:<a@sender.example>', 'RCPT TO:<b@other.example>'],
    outcome: 'recipient.relay-denied',
    inForce: '1 domain',
  },
  {
    line: 'limits',
    files: { 'relay-guard/limits.ini': '[messages per ip]\nlimit = 1/1h\n' },
    say: ['MAIL FROM:<a@sender.example>', 'RSET', 'MAIL FROM:<a@sender.example>'],
    outcome: 'message.',
    inForce: '1 limit',
  },
]

/** 127.0.0.6 speaks PROXY; a connection.ini without the other sections is none for Haraka. */
const proxied =
  '[haproxy]\nenabled=true\nhosts[]=127.0.0.6\n[max]\nbytes=1000000\nline_length=512\ndata_line_length=992\nmime_parts=1000\n[headers]\nmax_lines=1000\nmax_received=100\n[message]\nhelo=hi\nclose=bye\n[uuid]\nbanner_chars=6\n'

// Together: the node's key is written each 10 s.
describe('whichever line is loaded alone', { concurrency: 4 }, () => {
  for (const { line, files, say, outcome, inForce } of alone)
    test(`${line} alone: statistics, log and node key are written, and each connection is counted once`, async (t) => {
      const { haraka, run, redis } = await begin(t, {
        plugins: ['xclient', `relay-guard/${line}`],
        files: { 'xclient.hosts': '127.0.0.5\n', 'connection.ini': proxied, ...files },
      })
      // Who runs where, and what is in force.
      const first = await haraka.waitForLog(/relay-guard \d/)
      assert.match(
        first,
        new RegExp(
          `relay-guard \\S+ on Haraka \\d\\S*, Node \\d\\S*: ${inForce}, Redis 127\\.0\\.0\\.1:${redis.port}$`,
        ),
      )
      const open = await Promise.all([
        ...['127.0.0.5', '127.0.0.66', '127.0.0.7'].map((from) =>
          SmtpClient.connect({ port: haraka.port, from }),
        ),
        SmtpClient.connect({
          port: haraka.port,
          from: '127.0.0.6',
          first: 'PROXY TCP4 198.51.100.9 127.0.0.1 4000 25\r\n',
        }),
      ])
      t.after(() => {
        for (const client of open) client.destroy()
      })
      const [proxy, , stranger] = open as [SmtpClient, SmtpClient, SmtpClient]
      await proxy.ehlo()
      for (const address of ['198.51.100.1', '198.51.100.2'])
        await proxy.command(`XCLIENT ADDR=${address} NAME=x.example`)
      await stranger.ehlo()
      for (const command of say) await stranger.command(command)
      await until(async () => {
        const days = (await run('KEYS', 'mx:stats:*')) as string[]
        const names = await Promise.all(days.map((day) => run('HKEYS', day)))
        return names.flat().some((name) => `${name}`.startsWith(outcome))
      })
      await until(async () => Number(await run('XLEN', 'mx:log')) > 0)
      const count = async () => {
        const [key = ''] = (await run('KEYS', 'mx:node:*')) as string[]
        return run('HGET', key, 'connections')
      }
      const expected = line === 'acl' ? '3' : '4'
      for (const key of (await run('KEYS', 'mx:node:*')) as string[]) await run('DEL', key)
      await until(async () => (await count()) === expected, `${expected} connections, not ${await count()}`)
      assert.deepEqual(told(haraka), ['up'])
      for (const [, where] of haraka.output().matchAll(/redis: up \((.*)\)/g))
        assert.equal(where, `127.0.0.1:${redis.port}`)
      assert.deepEqual(haraka.failures(), [])
    })
})

test('without limits, too, each change of Redis is told once, and what was noted meanwhile is written', async (t) => {
  const { haraka, redis } = await begin(t, { plugins: ['relay-guard/acl', 'relay-guard/domains'] })
  await until(() => told(haraka).join() === 'up')
  await redis.kill()
  await until(() => told(haraka).join() === 'up,down')
  const client = await SmtpClient.connect({ port: haraka.port })
  await client.ehlo()
  await client.command('MAIL FROM:<a@sender.example>')
  await client.command('RCPT TO:<b@other.example>')
  client.destroy()
  await redis.up()
  await until(() => told(haraka).at(-1) === 'back')
  await until(async () => (await counted({ redis }, 'recipient.relay-denied')) === 1)
  assert.deepEqual(told(haraka), ['up', 'down', 'back'])
})

test('after a wrong password is mended, counting goes on, and says so', async (t) => {
  const { haraka, redis, run } = await begin(t, {
    plugins: ['relay-guard/acl', 'relay-guard/domains'],
    files: { 'redis.ini': '[server]\npassword = new ; secret\n' },
  })
  // None is asked for yet.
  await until(() => reachedIn(haraka) === 1)
  await run('CONFIG', 'SET', 'requirepass', 'old')
  const client = new Redis(redis.port, '127.0.0.1', { password: 'old' })
  t.after(() => client.disconnect())
  await client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
  await until(() => told(haraka).at(-1) === 'down')
  await client.config('SET', 'requirepass', 'new ; secret')
  await until(() => told(haraka).at(-1) === 'back')
  assert.ok(!haraka.output().includes('secret'))
  assert.deepEqual(told(haraka), ['up', 'down', 'back'])
})
