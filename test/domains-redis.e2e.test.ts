// Domains in a real Redis, behind a real Haraka: they come, change and go while connections are open, and Redis fails.
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { type Haraka, startHaraka } from './support/haraka'
import { until } from './support/patience'
import { RedisServer } from './support/redis'
import { type Sink, startSink } from './support/sink'
import { SmtpClient } from './support/smtp-client'

const STRANGER = '127.41.0.1'
const RELAY = '127.30.0.1'
const FOREIGN = '<a@sender.test>'
/** As haraka-plugin-aliases does: `for+USER+HOST@…` stands for USER@HOST. */
const putInPlace = `
exports.register = function () {
  this.register_hook('rcpt', 'put', 0)
}
exports.put = function (next, { transaction }) {
  const asked = transaction.rcpt_to.at(-1)
  const [, user, host] = /^for[+]([^+]+)[+](.+)$/.exec(asked.user) ?? []
  if (user) transaction.rcpt_to.splice(-1, 1, new asked.constructor('<' + user + '@' + host + '>'))
  next()
}
`

/** A change is in force after some seconds; the machine may be busy. */

let haraka: Haraka
let redis: RedisServer
let hop: Sink
let other: Sink
let internet: Sink
let takesRelayed = true
const open: SmtpClient[] = []

const key = (name: string) => `relay-guard:domain:${name}`
const set = (name: string, fields: Record<string, string>) =>
  redis.run('HSET', key(name), ...Object.entries(fields).flat())
const remove = (name: string) => redis.run('DEL', key(name))
const by = (sink: Sink, rest: Record<string, string> = {}) => ({
  next_hop: sink.address(),
  tls: 'none',
  ...rest,
})

async function connect(from = STRANGER): Promise<SmtpClient> {
  const client = await SmtpClient.connect({ port: haraka.port, from })
  open.push(client)
  await client.ehlo()
  return client
}

/** The answers to MAIL and RCPT in a transaction of their own. */
async function ask(client: SmtpClient, to: string, from = FOREIGN): Promise<string> {
  await client.command('RSET')
  const mail = await client.command(`MAIL FROM:${from}`)
  if (mail.code !== 250) return `MAIL ${mail.code} ${mail.status}`
  const rcpt = await client.command(`RCPT TO:${to}`)
  return `${rcpt.code} ${rcpt.status}`
}

const becomes = (client: SmtpClient, to: string, answer: string, from = FOREIGN) =>
  until(async () => (await ask(client, to, from)) === answer, `${answer} for ${to}`)

const linesOf = (pattern: RegExp) =>
  haraka
    .output()
    .split('\n')
    .filter((line) => pattern.test(line))

async function fill(): Promise<void> {
  await set('ours.test', by(hop))
  await set('sub.test', by(hop, { subdomains: 'true', recipients: 'anna@sub.test,bob@x.sub.test' }))
  await set('xn--bcher-kva.test', by(hop))
  await set('queue.test', by(hop, { delivery: 'queue', verify: 'none' }))
  await set('plugin.test', { delivery: 'plugin' })
}

before(async () => {
  redis = await RedisServer.start()
  hop = await startSink()
  other = await startSink()
  internet = await startSink({
    respond: (stage) => (stage === 'rcpt' && !takesRelayed ? '451 4.7.1 Not now' : undefined),
  })
  await fill()
  haraka = await startHaraka({
    plugins: ['put_in_place', 'relay-guard/acl', 'relay-guard/domains'],
    localPlugins: { put_in_place: putInPlace },
    files: {
      'relay-guard/acl.ini': '[relay]\n127.30.0.0/16\n',
      'relay-guard/domains.ini': `[main]\nredis = true\nanti_spoof_from = reject\npostmaster = anna@ours.test\nsmarthost = ${internet.address()}\n[file.test]\nnext_hop = ${hop.address()}\ntls = none\n`,
      // No answer is late only because this machine is busy.
      'relay-guard/redis.ini': `[redis]\nport = ${redis.port}\ntimeout = 2s\n`,
      'outbound.ini': 'temp_fail_intervals=5s*20\n',
    },
  })
})

after(async () => {
  for (const client of open) client.destroy()
  await haraka?.stop()
  await redis?.stop()
  for (const sink of [hop, other, internet]) await sink?.close()
  assert.deepEqual(haraka?.failures() ?? [], [])
})

describe('domains in Redis', () => {
  it('are ours as those in the file are, with all that a section says', async () => {
    const client = await connect()
    for (const [to, answer] of [
      ['<a@ours.test>', '250 2.1.5'],
      ['<a@OURS.test>', '250 2.1.5'],
      ['<a@bücher.test>', '250 2.1.5'],
      ['<a@file.test>', '250 2.1.5'],
      ['<anna@sub.test>', '250 2.1.5'],
      ['<bob@x.sub.test>', '250 2.1.5'],
      ['<carl@sub.test>', '550 5.1.1'],
      ['<a@queue.test>', '250 2.1.5'],
      ['<a@plugin.test>', '250 2.1.5'],
      ['<postmaster>', '250 2.1.5'],
      ['<a@x.ours.test>', '550 5.7.1'],
      ['<a@other.test>', '550 5.7.1'],
      ['<v%victim.test@ours.test>', '550 5.7.1'],
      [`<a@${'b.'.repeat(100)}test>`, '550 5.7.1'],
      ['<a@domain.ours.test>', '550 5.7.1'],
    ] as const)
      assert.equal(await ask(client, to), answer, to)
    const { dot } = await client.deliver({ from: 'a@sender.test', to: ['a@ours.test'] })
    assert.equal(dot?.code, 250)
    assert.deepEqual(hop.messages.at(-1)?.to, ['a@ours.test'])
  })

  it('are not forged, nor is what is under those with subdomains = true', async () => {
    const client = await connect()
    for (const from of ['<boss@ours.test>', '<boss@x.sub.test>', '<boss@file.test>', '<postmaster>'])
      assert.equal(await ask(client, '<a@ours.test>', from), 'MAIL 550 5.7.1', from)
    const relay = await connect(RELAY)
    assert.equal(await ask(relay, '<a@foreign.test>', '<boss@ours.test>'), '250 2.1.5')
  })

  it('are not forged in From: either, in whichever domain it is', async () => {
    for (const name of ['author.test', 'second-author.test']) await set(name, by(hop))
    const client = await connect()
    const send = async (from: string) => {
      await client.command('RSET')
      const data = `From: ${from}\r\nSubject: x\r\n\r\nx\r\n`
      const { dot } = await client.deliver({ from: 'a@sender.test', to: ['a@ours.test'], data })
      return `${dot?.code} ${dot?.status}`
    }
    assert.equal(await send('a@sender.test, b@no-author.test'), '250 2.0.0')
    assert.equal(await send('boss@author.test'), '550 5.7.1')
    assert.equal(await send('a@sender.test, boss@second-author.test'), '550 5.7.1')
  })

  it('are what an alias of another plugin may stand for', async () => {
    await set('target.test', by(hop))
    const client = await connect()
    assert.equal(await ask(client, '<for+anna+target.test@file.test>'), '250 2.1.5')
    assert.equal(hop.rcpts.at(-1)?.replace(/[<>]/g, ''), 'anna@target.test')
    assert.equal(await ask(client, '<for+anna+no-target.test@file.test>'), '550 5.7.1')
  })

  it('with delivery = plugin have no next hop: 451 where no plugin takes the mail', async () => {
    const client = await connect()
    const { dot } = await client.deliver({ from: 'a@sender.test', to: ['a@plugin.test'] })
    assert.equal(`${dot?.code} ${dot?.status}`, '451 4.3.5')
  })

  it('that are bad, or no hash, are 451 for their mail, and one line in the log', async () => {
    await set('bad.test', { ...by(hop), tls: 'hunter2', 'smtp://me:hunter2@h': 'x' })
    await redis.run('SET', key('string.test'), 'hunter2')
    await redis.run('HSET', 'relay-guard:other:elsewhere.test', 'next_hop', hop.address())
    const client = await connect()
    for (let i = 0; i < 3; i++)
      for (const name of ['bad.test', 'x.string.test', 'string.test', 'elsewhere.test']) {
        const answer = await ask(client, `<a@${name}>`)
        const isBad = name === 'bad.test' || name === 'string.test'
        assert.equal(answer, isBad ? '451 4.3.0' : '550 5.7.1', name)
      }
    assert.equal(linesOf(/Redis \[domain:bad\.test\] tls: is not one of none/).length, 1)
    assert.equal(linesOf(/Redis \[domain:string\.test\]: is no hash/).length, 1)
    assert.doesNotMatch(haraka.output(), /hunter2/)
    await set('bad.test', { tls: 'none' })
    await redis.run('HDEL', key('bad.test'), 'smtp://me:hunter2@h')
    await becomes(client, '<a@bad.test>', '250 2.1.5')
  })

  it('come, change and go for connections and transactions that are open', async () => {
    const client = await connect()
    assert.equal(await ask(client, '<a@new.test>'), '550 5.7.1')
    await set('new.test', by(hop))
    await becomes(client, '<a@new.test>', '250 2.1.5')
    // The transaction of this recipient is open.
    await set('new.test', by(other))
    const next = await connect()
    await until(async () => {
      await ask(next, '<b@new.test>')
      return other.rcpts.length > 0
    }, 'the new next hop')
    assert.equal((await client.data('Subject: x\r\n\r\nx\r\n')).dot?.code, 250)
    assert.deepEqual(other.messages.at(-1)?.to, ['a@new.test'], 'asked anew at the new next hop')

    assert.equal(await ask(client, '<a@new.test>'), '250 2.1.5')
    await remove('new.test')
    await becomes(next, '<b@new.test>', '550 5.7.1')
    const { data } = await client.data('x')
    assert.equal(`${data.code} ${data.status}`, '550 5.7.1', 'no longer ours at DATA')
  })

  it('are as they were under another prefix', async () => {
    const client = await connect()
    await redis.run('HSET', 'second:domain:second.test', 'next_hop', hop.address(), 'tls', 'none')
    assert.equal(await ask(client, '<a@second.test>'), '550 5.7.1')
    const ini = (prefix: string) => `[redis]\nport = ${redis.port}\ntimeout = 2s\nprefix = ${prefix}\n`
    haraka.write('relay-guard/redis.ini', ini('second:'))
    await becomes(client, '<a@second.test>', '250 2.1.5')
    await becomes(client, '<a@ours.test>', '550 5.7.1')
    haraka.write('relay-guard/redis.ini', ini('relay-guard:'))
    await becomes(client, '<a@ours.test>', '250 2.1.5')
    await becomes(client, '<a@second.test>', '550 5.7.1')
  })
})

describe('while Redis is away', () => {
  it('what is known is served, all else is 451, and queued mail waits: killed', async () => {
    const [client, relay] = [await connect(), await connect(RELAY)]
    for (const name of ['ours.test', 'queue.test', 'bücher.test'])
      assert.equal(await ask(client, `<a@${name}>`), '250 2.1.5')
    takesRelayed = false
    const { dot } = await relay.deliver({ from: 'a@ours.test', to: ['a@foreign.test'] })
    assert.equal(dot?.code, 250)
    await redis.kill()
    await becomes(client, '<a@unheard.test>', 'MAIL 451 4.3.0', '<a@never-wrote.test>')
    // Who has written within the last hour goes on writing.
    assert.equal(await ask(client, '<a@ours.test>'), '250 2.1.5')
    // What was known to be none of ours is so for some seconds more, and then it cannot be told.
    await becomes(relay, '<a@foreign.test>', '451 4.3.0')
    for (const name of ['ours.test', 'queue.test', 'bücher.test', 'file.test'])
      assert.equal(await ask(client, `<a@${name}>`, '<>'), '250 2.1.5', name)
    assert.equal(await ask(client, '<a@unheard.test>', '<>'), '451 4.3.0')
    assert.equal(
      await ask(client, '<a@ours.test>', '<boss@ours.test>'),
      'MAIL 550 5.7.1',
      'forged all the same',
    )
    takesRelayed = true
    await haraka.waitForLog(/message\.domain-unknown/)
    assert.equal(internet.messages.length, 0)
    await redis.up()
    await fill()
    await until(() => internet.messages.length === 1, 'the relayed message')
    await becomes(client, '<a@unheard.test>', '550 5.7.1')
    assert.equal(linesOf(/domains in Redis: cannot be looked up/).length, 1)
    assert.equal(linesOf(/domains in Redis: back/).length, 1)
  })

  it('the same: hung', async () => {
    const client = await connect()
    assert.equal(await ask(client, '<a@ours.test>', '<>'), '250 2.1.5')
    redis.hang()
    try {
      await becomes(client, '<a@hung.test>', '451 4.3.0', '<>')
      assert.equal(await ask(client, '<a@ours.test>', '<>'), '250 2.1.5')
    } finally {
      redis.goOn()
    }
    await becomes(client, '<a@hung.test>', '550 5.7.1')
  })

  it('is not what an emptied Redis is: it has no domains', async () => {
    const client = await connect()
    await redis.run('FLUSHALL')
    await becomes(client, '<a@ours.test>', '550 5.7.1')
    assert.equal(await ask(client, '<a@file.test>'), '250 2.1.5')
    await fill()
    await becomes(client, '<a@ours.test>', '250 2.1.5')
  })
})
