// What other plugins do to a message without us: they queue it by themselves, or accept a recipient in our place. And
// what a DSN tells the sender.
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, beforeEach, describe, test } from 'node:test'
import { type Haraka, startHaraka } from './support/haraka'
import { type Sink, startSink } from './support/sink'
import { type Delivery, SmtpClient } from './support/smtp-client'

const STRANGER = '127.10.0.1'
const RELAY = '127.30.0.1'

/** Accepts recipients as the last word, and queues copies before hook queue. */
const eager = `
exports.register = function () {
  this.register_hook('rcpt_ok', 'accept')
  this.register_hook('data_post', 'copy')
}
exports.accept = (next, connection) => next(connection.transaction.mail_from.user === 'eager' ? OK : CONT)
exports.copy = function (next, { transaction }) {
  if (transaction.mail_from.user !== 'copied') return next()
  this.haraka_require('outbound').send_trans_email(transaction, () => next())
}
`
const aliases = { 'alias@alpha.test': { action: 'alias', to: 'nobody@alpha.test' } }

let haraka: Haraka
let store: Sink
let alpha: Sink
let queued: Sink
let lmtp: Sink
let internet: Sink
let directory: string
let silent: Sink

const unknown = (stage: string, argument: string) =>
  stage === 'rcpt' && /nobody/.test(argument) ? `550 5.1.1 no such user ${argument}` : undefined

before(async () => {
  directory = mkdtempSync(join(tmpdir(), 'relay-guard-queues-'))
  store = await startSink({ lmtp: true, respond: unknown })
  alpha = await startSink({ respond: unknown })
  queued = await startSink({ respond: unknown })
  internet = await startSink()
  lmtp = await startSink({
    lmtp: true,
    path: join(directory, 'store'),
    respond: (stage, _, { to }) =>
      stage === 'dot'
        ? to.map((path) => (/nobody/.test(path) ? '550 5.2.1 mailbox is off' : '250 2.0.0 ok'))
        : undefined,
  })
  silent = await startSink({ respond: (stage) => (stage === 'greeting' ? 'drop' : undefined) })
  const { privateKey } = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  })
  const section = (name: string, hop: string, rest = '') =>
    `[${name}]\nnext_hop = ${hop}\ntls = none\n${rest}`
  haraka = await startHaraka({
    plugins: ['dkim', 'aliases', 'eager', 'relay-guard/acl', 'relay-guard/domains', 'queue/lmtp'],
    localPlugins: { eager },
    files: {
      'relay-guard/acl.ini': '[relay]\n127.30.0.0/16\n',
      'relay-guard/domains.ini': [
        `[main]\nsmarthost = ${internet.address()}\nsmarthost_tls = none\nanti_spoof_from = off\n`,
        section('alpha.test', alpha.address()),
        '[plug.test]\ndelivery = plugin\n',
        section('queue.test', queued.address(), 'delivery = queue\n'),
        section('lmtp.test', lmtp.address()),
        section('silent.test', silent.address(), 'delivery = queue\n'),
      ].join(''),
      'aliases.json': JSON.stringify(aliases),
      'outbound.ini': 'temp_fail_intervals=none\n',
      'lmtp.ini': `host=127.0.0.1\nport=${store.port}\n`,
      'dkim.ini': '[sign]\nenabled=true\n[verify]\nenabled=false\n',
      'dkim/plug.test/private': privateKey,
      'dkim/plug.test/selector': 'sel\n',
    },
  })
})
after(async () => {
  await haraka?.stop()
  await Promise.all([store, alpha, queued, lmtp, internet, silent].map((sink) => sink?.close()))
  rmSync(directory, { recursive: true, force: true })
})
beforeEach(() => {
  for (const sink of [store, alpha, queued, lmtp, internet]) sink.messages.length = 0
})

async function deliver(to: string[], from = 'a@evil.example', ip = STRANGER): Promise<Delivery> {
  const client = await SmtpClient.connect({ port: haraka.port, from: ip })
  try {
    await client.ehlo()
    return await client.deliver({ from, to, data: 'From: boss@plug.test\r\nSubject: x\r\n\r\nbody\r\n' })
  } finally {
    await client.quit()
  }
}

const pathsOf = ({ messages }: Sink) => messages.flatMap(({ to }) => to).sort()

describe('a message that another plugin queues', () => {
  test('arrives without our DKIM signature where a stranger brought it', async () => {
    assert.equal((await deliver(['anna@plug.test'])).dot?.code, 250)
    await haraka.queueEmpty()
    assert.deepEqual(pathsOf(store), ['anna@plug.test'])
    assert.doesNotMatch(store.messages[0]!.data.toString(), /^DKIM-Signature/im)
  })

  test('at data_post already, neither', async () => {
    assert.equal((await deliver(['anna@queue.test'], 'copied@evil.example')).dot?.code, 250)
    await haraka.queueEmpty()
    assert.deepEqual(pathsOf(queued), ['anna@queue.test', 'anna@queue.test'])
    for (const { data } of queued.messages) assert.doesNotMatch(data.toString(), /^DKIM-Signature/im)
  })

  test('makes no DSN to a sender who is not verified', async () => {
    assert.equal((await deliver(['nobody@plug.test'], 'victim@innocent.example')).dot?.code, 250)
    await haraka.waitForLog(
      /outcome=bounce\.dropped .*ip=127\.10\.0\.1 from=victim@innocent\.example to=nobody@plug\.test/,
    )
    await haraka.queueEmpty()
    assert.deepEqual(pathsOf(internet), [])
  })

  test('is signed where a client that may relay brought it', async () => {
    assert.equal((await deliver(['v@victim.example'], 'boss@plug.test', RELAY)).dot?.code, 250)
    await haraka.queueEmpty()
    assert.deepEqual(pathsOf(internet), ['v@victim.example'])
    assert.match(internet.messages[0]!.data.toString(), /^DKIM-Signature:.*d=plug\.test/ims)
  })
})

describe('a recipient that another plugin accepts in our place', () => {
  test('<postmaster> without a domain goes where postmaster says, whoever asks', async () => {
    for (const ip of [STRANGER, RELAY]) {
      alpha.messages.length = 0
      assert.equal((await deliver(['postmaster'], 'eager@evil.example', ip)).dot?.code, 250)
      await haraka.queueEmpty()
      assert.deepEqual([pathsOf(alpha), pathsOf(internet)], [['postmaster@alpha.test'], []], ip)
    }
  })

  test('is refused at DATA where the next hop does not know it, an alias in its own name', async () => {
    const { rcpt, data } = await deliver(['anna@alpha.test', 'nobody@alpha.test'], 'eager@evil.example')
    assert.deepEqual([...rcpt.map(({ code }) => code), data?.code, data?.status], [250, 250, 550, '5.1.1'])
    const alias = (await deliver(['alias@alpha.test'], 'eager@evil.example')).data
    assert.deepEqual([alias?.code, alias?.status], [550, '5.1.1'])
    assert.match(alias?.text ?? '', /<alias@alpha\.test>/)
    assert.doesNotMatch(alias?.text ?? '', /nobody/)
    assert.deepEqual(pathsOf(alpha), [])
  })

  test('goes in a transaction of its own where it has another next hop', async () => {
    const { rcpt, dot } = await deliver(['anna@alpha.test', 'berta@lmtp.test'], 'eager@evil.example')
    assert.deepEqual([...rcpt.map(({ code }) => code), dot?.code], [250, 452, 250])
    assert.deepEqual([pathsOf(alpha), pathsOf(lmtp)], [['anna@alpha.test'], []])
  })
})

describe('a DSN', () => {
  interface Row {
    to: string[]
    /** `RECIPIENT STATUS`, and what the next hop said, if it said anything. */
    says: [string, string, string?][]
  }
  const rows: [string, Row][] = [
    [
      'names the one of several whom the next hop refuses, and its words',
      {
        to: ['anna@queue.test', 'nobody@queue.test'],
        says: [['nobody@queue.test', '5.1.1', 'smtp;550 5.1.1 no such user']],
      },
    ],
    [
      'names all of them',
      {
        to: ['nobody@queue.test', 'nobody2@queue.test'],
        says: [
          ['nobody2@queue.test', '5.1.1', 'smtp;550 5.1.1 no such user'],
          ['nobody@queue.test', '5.1.1', 'smtp;550 5.1.1 no such user'],
        ],
      },
    ],
    [
      'names whom LMTP refused after the message, and no socket',
      {
        to: ['anna@lmtp.test', 'nobody@lmtp.test'],
        says: [['nobody@lmtp.test', '5.2.1', 'smtp;550 5.2.1 mailbox is off']],
      },
    ],
    [
      'of a next hop that never answered says only that',
      { to: ['anna@silent.test'], says: [['anna@silent.test', '5.4.1']] },
    ],
    [
      'of a domain that no queue plugin takes says that',
      { to: ['anna@plug.test'], says: [['anna@plug.test', '5.3.5']] },
    ],
  ]
  for (const [name, { to, says }] of rows) {
    test(name, async () => {
      // A client that may relay: nothing of what goes to it depends on SPF. Mail for plug.test is queued by another plugin.
      const from = to[0] === 'anna@plug.test' ? 'copied@client.example' : 'a@client.example'
      await deliver(to, from, RELAY)
      await haraka.queueEmpty()
      const dsn = internet.messages.find((message) => message.to.includes(from))?.data.toString() ?? ''
      const [told = '', report = ''] = dsn.split(/Content-type: message\/delivery-status/i)
      const [status = ''] = report.split('Undelivered Message Headers')
      const fields = status
        .split('\r\n\r\n')
        .filter((block) => /^Final-Recipient/m.test(block))
        .map((block) =>
          Object.fromEntries(
            block
              .trim()
              .split('\r\n')
              .map((line) => line.split(/: ?(.*)/s)),
          ),
        )
        .sort((a, b) => (a['Final-Recipient'] < b['Final-Recipient'] ? -1 : 1))
      assert.deepEqual(
        fields.map((each) => [each['Final-Recipient'], each.Action, each.Status, each['Remote-MTA']]),
        says.map(([recipient, code]) => [`rfc822;${recipient}`, 'failed', code, undefined]),
      )
      for (const [index, [, , diagnostic]] of says.entries()) {
        const said = fields[index]?.['Diagnostic-Code']
        if (diagnostic === undefined) assert.equal(said, undefined)
        else assert.ok(said?.startsWith(diagnostic), said)
      }
      const behind = [directory, '127.0.0.1', 'hung up', `:${silent.port}`, `:${queued.port}`]
      for (const secret of behind) assert.ok(!`${told}${status}`.includes(secret), `${secret}\n${dsn}`)
    })
  }
})

test('no hook has failed in all this', () => assert.deepEqual(haraka.failures(), []))
