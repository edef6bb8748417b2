// Every way in which Haraka's outbound queue comes to make a DSN: a stranger gets none of them, whoever is verified one.
import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { type Haraka, startHaraka } from './support/haraka'
import { until } from './support/patience'
import { freePort } from './support/ports'
import { RedisServer } from './support/redis'
import { type Response, type Sink, type SinkSession, type Stage, startSink } from './support/sink'
import { SmtpClient } from './support/smtp-client'

const CLIENT = '127.10.0.1'

/** A path is chosen by the local part of MAIL FROM, which every next hop is told; some by the recipient's domain. */
interface Path {
  to: string[]
  /** No mail comes by SMTP: the queue file was there before the plugins were. */
  before?: boolean
}

const queued = ['anna@queue.test']
const core = ['anna@core.test']
const paths: Record<string, Path> = {
  'mail-refused': { to: queued },
  'one-refused': { to: ['anna@queue.test', 'nobody@queue.test'] },
  'all-refused': { to: ['nobody@queue.test', 'nobody2@queue.test'] },
  'data-refused': { to: queued },
  'dot-refused': { to: queued },
  garbage: { to: queued },
  dropped: { to: queued },
  deferred: { to: queued },
  'one-deferred': { to: ['anna@queue.test', 'later@queue.test'] },
  dead: { to: ['anna@dead.test'] },
  'lmtp-rest': { to: ['anna@lmtp.test', 'nobody@lmtp.test'] },
  'core-mail-refused': { to: core },
  'core-one-refused': { to: ['anna@core.test', 'nobody@core.test'] },
  'core-all-refused': { to: ['nobody@core.test'] },
  'core-dot-refused': { to: core },
  'core-garbage': { to: core },
  'core-deferred': { to: core },
  'mx-denied': { to: ['anna@mx-denied.test'] },
  'mx-deferred': { to: ['anna@mx-deferred.test'] },
  'mx-null': { to: ['anna@mx-null.test'] },
  'nobody-routes': { to: ['anna@plug.test'] },
  'plugin-bounces': { to: core },
  'queued-before': { to: ['anna@dead.test'], before: true },
}
const bySmtp = Object.entries(paths).filter(([, { before }]) => !before)

/** So many DSNs are dropped: one on each path, that of mail of the null sender, and one that cannot be delivered. */
const DROPPED = Object.keys(paths).length + 2

/** What a next hop says on each path. */
function misbehave(stage: Stage, argument: string, { from = '' }: SinkSession): Response {
  const path = (stage === 'mail' ? argument : from).replace(/^.*</, '').replace(/@.*$/, '')
  if (stage === 'rcpt' && argument.includes('nobody')) return '550 5.1.1 No such user'
  if (stage === 'rcpt' && argument.includes('later')) return '450 4.2.1 Later'
  if (path.endsWith(`${stage}-refused`)) return '554 5.7.1 Never'
  if (stage === 'mail' && path.endsWith('garbage')) return Buffer.from('\xffwhat\r\n', 'latin1')
  if (stage === 'mail' && path === 'dropped') return 'drop'
  if (stage === 'mail' && /^(core-)?deferred$/.test(path)) return '451 4.3.0 Later'
  return undefined
}

/** Stands for spf; queues what is for domains with `delivery = plugin`, and routes it; has a DSN of its own. */
const localPlugin = (coreSink: Sink) => `
const { mkdirSync, writeFileSync } = require('node:fs')
const { join } = require('node:path')
exports.register = function () {
  for (const hook of ['mail', 'queue', 'get_mx', 'send_email', 'bounce']) this.register_hook(hook, hook)
  const qfile = this.haraka_require('outbound/qfile')
  mkdirSync(join(process.env.HARAKA, 'queue'), { recursive: true })
  for (const from of ['queued-before@stranger.example', 'queued-before@queue.test']) {
    const todo = '\\n' + JSON.stringify({
      queue_time: Date.now(), domain: 'dead.test', rcpt_to: ['<anna@dead.test>'], mail_from: '<' + from + '>',
      notes: {}, uuid: '7F3A0C91-0000-0000-0000-000000000000.1.1', force_tls: false,
    }) + '\\n'
    const head = Buffer.alloc(4)
    head.writeUInt32BE(todo.length)
    writeFileSync(join(process.env.HARAKA, 'queue', qfile.name()), Buffer.concat([head, Buffer.from(todo + 'Subject: x\\r\\n\\r\\nx\\r\\n')]))
  }
}
exports.mail = function (next, { transaction }) {
  const domain = transaction.mail_from.host
  if (/^(verified|blocked)\\.example$/.test(domain)) transaction.results.add({ name: 'spf' }, { scope: 'mfrom', result: 'Pass', domain })
  next()
}
exports.queue = function (next, { transaction }) {
  if (!/^(core|mx-.*|plug)\\.test$/.test(transaction.rcpt_to[0].host)) return next()
  this.haraka_require('outbound').send_trans_email(transaction, (code, message) => next(code, message))
}
exports.get_mx = (next, mail, host) => {
  if (host === 'core.test') return next(OK, { exchange: '127.0.0.1', port: ${coreSink.port}, priority: 0 })
  if (host === 'mx-denied.test') return next(DENY, 'no')
  if (host === 'mx-deferred.test') return next(DENYSOFT, 'later')
  if (host === 'mx-null.test') return next(OK, { exchange: '', priority: 0 })
  next()
}
exports.send_email = (next, mail) => {
  if (mail.todo.mail_from.user === 'plugin-bounces') return mail.bounce('I do not like it')
  next()
}
exports.bounce = function (next, mail) {
  if (mail.todo.mail_from.user === 'disk-full') {
    const outbound = this.haraka_require('outbound')
    const { process_delivery } = outbound
    outbound.process_delivery = () => {
      outbound.process_delivery = process_delivery
      return Promise.reject('Queueing failed')
    }
  }
  if (mail.todo.mail_from.user === 'bad-disk') mail.data_stream = () => require('node:fs').createReadStream('/nowhere')
  this.lognotice('another plugin hears of a DSN to ' + mail.todo.mail_from.address)
  next()
}
`

async function accepted(from: string, to: string[]) {
  const client = await SmtpClient.connect({ port: haraka.port, from: CLIENT })
  await client.ehlo()
  const { dot } = await client.deliver({ from, to, data: 'Subject: x\r\n\r\nx\r\n' })
  assert.equal(dot?.code, 250, `${from} ${JSON.stringify(dot)}`)
  await client.quit()
}

let haraka: Haraka
let redis: RedisServer
let internet: Sink
let ours: Sink
let directory: string
const sinks: Sink[] = []

before(async () => {
  directory = mkdtempSync(join(tmpdir(), 'relay-guard-bounces-'))
  redis = await RedisServer.start()
  internet = await startSink({
    respond: (stage, argument) =>
      stage === 'rcpt' && argument.includes('takes-no-dsn') ? '550 5.1.1 No such user' : undefined,
  })
  ours = await startSink({ respond: misbehave })
  const coreSink = await startSink({ respond: misbehave })
  const lmtp = await startSink({
    lmtp: true,
    path: join(directory, 'lmtp'),
    respond: (stage, _, { to }) =>
      stage === 'dot'
        ? to.map((path) => (/nobody/.test(path) ? '550 5.2.1 off' : '250 2.0.0 ok'))
        : undefined,
  })
  sinks.push(internet, ours, coreSink, lmtp)
  const section = (name: string, hop: string, rest = '') =>
    `[${name}]\nnext_hop = ${hop}\ntls = none\nverify = none\ntimeout = 2s\n${rest}`
  const plugged = ['core', 'mx-denied', 'mx-deferred', 'mx-null', 'plug']
  haraka = await startHaraka({
    plugins: ['local', 'relay-guard/acl', 'relay-guard/domains'],
    localPlugins: { local: localPlugin(coreSink) },
    files: {
      'relay-guard/domains.ini': [
        `[main]\nsmarthost = ${internet.address()}\nsmarthost_tls = none\nanti_spoof_from = off\n`,
        section('queue.test', ours.address(), 'delivery = queue\n'),
        section('dead.test', `smtp://127.0.0.1:${await freePort()}`, 'delivery = queue\n'),
        section('lmtp.test', lmtp.address()),
        ...plugged.map((name) => `[${name}.test]\ndelivery = plugin\n`),
      ].join(''),
      'relay-guard/redis.ini': '[redis]\nenabled = true\n',
      'redis.ini': `[server]\nhost=127.0.0.1\nport=${redis.port}\n`,
      'outbound.ini': 'temp_fail_intervals=none\n',
    },
  })
  for (const [path, { to }] of bySmtp) {
    for (const domain of ['stranger.example', 'verified.example']) await accepted(`${path}@${domain}`, to)
  }
  await accepted('', ['anna@dead.test'])
  await accepted('takes-no-dsn@verified.example', ['anna@dead.test'])
  await haraka.queueEmpty()
})
after(async () => {
  await haraka?.stop()
  await redis?.stop()
  await Promise.all(sinks.map((sink) => sink.close()))
  rmSync(directory, { recursive: true, force: true })
})

const dsnsTo = (address: string, { messages }: Sink = internet) =>
  messages.filter(({ from, to }) => from === '' && to.includes(address)).length

const linesOf = (pattern: RegExp) =>
  haraka
    .output()
    .split('\n')
    .filter((line) => pattern.test(line))

/** So many messages are in the queue, each under the time of its next try: ARRIVAL_NEXT_ATTEMPTS_... */
function isPutBack(count: number): boolean {
  const files = readdirSync(join(haraka.dir, 'queue')).map((name) => name.split('_').map(Number))
  return files.length === count && files.every(([arrival = 0, next = 0]) => next > arrival + 1000)
}

describe('a DSN that Haraka is about to make', () => {
  for (const path of Object.keys(paths)) {
    test(`on the path "${path}" never goes to a stranger, and is counted with its id and rule`, () => {
      const stranger = `${path}@stranger.example`
      assert.equal(dsnsTo(stranger), 0)
      const lines = linesOf(new RegExp(`outcome=bounce\\.dropped .*from=${stranger} `))
      assert.equal(lines.length, 1, lines.join('\n'))
      assert.match(lines[0]!, /decision id=[0-9A-F]{8}\.\d+ .*rule="domains\.ini \[main\] bounce = verified"/)
      assert.equal(linesOf(new RegExp(`another plugin hears of a DSN to ${stranger}`)).length, 0)
    })
  }
  for (const [path] of bySmtp) {
    test(`on the path "${path}" goes once to a sender that SPF has verified`, () => {
      assert.equal(dsnsTo(`${path}@verified.example`), 1)
    })
  }

  test('for mail that was queued before these plugins were there goes to a sender in a domain of ours', () =>
    assert.equal(dsnsTo('queued-before@queue.test', ours), 1))

  test('for mail of the null sender, or for a DSN that cannot be delivered, goes nowhere and is counted', () => {
    assert.equal(dsnsTo(''), 0)
    assert.equal(dsnsTo('takes-no-dsn@verified.example'), 0)
    assert.equal(internet.rcpts.filter((path) => path.includes('takes-no-dsn')).length, 1)
    for (const to of ['anna@dead.test', 'takes-no-dsn@verified.example'])
      assert.equal(linesOf(new RegExp(`outcome=bounce\\.dropped .*from=<> to=${to} `)).length, 1, to)
  })

  test('is the only mail that has left', () => {
    const wanted = new Set([...bySmtp.map(([path]) => `${path}@verified.example`)])
    const left = internet.messages.map(({ from, to }) => [from, to.length, wanted.has(to[0] ?? '')])
    assert.deepEqual(
      left,
      bySmtp.map(() => ['', 1, true]),
    )
  })

  test('is counted in the statistics where it is dropped', async () => {
    const key = `relay-guard:stats:${new Date().toISOString().slice(0, 10)}`
    const count = async () => Number(await redis.run('HGET', key, 'bounce.dropped'))
    await until(async () => (await count()) === DROPPED)
  })

  test('waits in the queue with its message where too many have gone to that domain', async () => {
    const block = ['reason', 'test', 'since', 0, 'until', Date.now() + 3_600_000, 'by', 'test']
    await redis.run('HSET', 'relay-guard:block:{recipient-domain:blocked.example}', ...block)
    await accepted('dead@blocked.example', ['anna@dead.test'])
    await haraka.waitForLog(
      /outcome=bounce\.limited .*from=dead@blocked\.example .*reply="450 4\.7\.1 Too many/,
    )
    await until(() => isPutBack(1))
    assert.equal(dsnsTo('dead@blocked.example'), 0)
  })

  test('is not lost, nor its message, where it cannot be written', async () => {
    for (const [index, user] of ['disk-full', 'bad-disk'].entries()) {
      await accepted(`${user}@verified.example`, ['anna@dead.test'])
      await haraka.waitForLog(new RegExp(`another plugin hears of a DSN to ${user}@`))
      await until(() => isPutBack(index + 2))
    }
  })

  test('lets no hook fail', () => assert.deepEqual(haraka.failures(), []))
})
