// Forwarding to next hops that are dead, slow, hostile or of two minds: what the client is told, and what arrives.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { certificate, privateAuthority } from './support/certificate'
import { type Haraka, startHaraka } from './support/haraka'
import { freePort } from './support/ports'
import { type Response, type Sink, type SinkOptions, type Stage, startSink } from './support/sink'
import { type Delivery, SmtpClient } from './support/smtp-client'

/** What the client must be told, and at which step at the latest. */
interface Fault {
  sink?: SinkOptions
  /** More keys of the domain's section. */
  keys?: string
  /** Its URL has a login. */
  login?: boolean
  /** `code status` of the first refusal; '250' when the message must be delivered. */
  expected: RegExp
}

const at = (stage: Stage, response: Response): SinkOptions => ({
  respond: (now) => (now === stage ? response : undefined),
})

const soft = /^4\d\d 4\.\d\.\d+$/
const fine = /^250/
const garbage = Buffer.from([0xff, 0xfe, 0, 13, 10, 0x80, 13, 10])

const stages: Stage[] = ['greeting', 'ehlo', 'mail', 'rcpt', 'data', 'dot']
const everyStage = (name: string, response: Response, expected: RegExp): [string, Fault][] =>
  stages.map((stage) => [`${name} at ${stage}`, { sink: at(stage, response), expected }])

const faults = new Map<string, Fault>([
  ['is fine', { sink: {}, expected: fine }],
  ['is dead', { expected: /^451 4\.4\.1$/ }],
  ...everyStage('drops', 'drop', soft),
  ...everyStage('says nothing', 'hang', soft),
  ...everyStage('talks garbage', garbage, soft),
  ...everyStage('is closing', '421 4.3.2 Shutting down', soft),
  ['has a full disk at mail', { sink: at('mail', '452 4.3.1 Full'), expected: soft }],
  ['greylists at rcpt', { sink: at('rcpt', '450 4.2.1 Come back'), expected: /^450 4\.2\.1$/ }],
  ['knows no such user', { sink: at('rcpt', '550 5.1.1 No such user'), expected: /^550 5\.1\.1$/ }],
  ['knows none, tersely', { sink: at('rcpt', '550 No such user'), expected: /^550 5\.\d\.\d+$/ }],
  ['takes no more recipients', { sink: at('rcpt', '552 5.5.3 Too many'), expected: /^452 4\.5\.3$/ }],
  ['takes no more recipients, tersely', { sink: at('rcpt', '552 Too many'), expected: /^452 4\.5\.3$/ }],
  ['says neither yes nor no at dot', { sink: at('dot', '350 What'), expected: /^4\d\d 4\.3\.0$/ }],
  ['has a full mailbox', { sink: at('rcpt', '552 5.2.2 Full'), expected: /^552 5\.2\.2$/ }],
  ['defers at data', { sink: at('data', '451 4.3.0 Later'), expected: soft }],
  ['refuses at data', { sink: at('data', '554 5.6.0 Never'), expected: /^5\d\d 5\.\d\.\d+$/ }],
  ['defers at dot', { sink: at('dot', '451 4.7.1 Later'), expected: /^4\d\d 4\.7\.1$/ }],
  ['refuses at dot', { sink: at('dot', '554 5.7.1 Spam'), expected: /^5\d\d 5\.7\.1$/ }],
  ['offers no STARTTLS that we demand', { sink: {}, keys: 'tls = encrypt', expected: soft }],
  [
    'refuses the STARTTLS that we demand',
    {
      sink: { tls: certificate(), ...at('starttls', '454 4.7.0 Not now') },
      keys: 'tls = encrypt',
      expected: soft,
    },
  ],
  [
    'has a certificate of its own making',
    { sink: { tls: certificate() }, keys: 'tls = verify', expected: soft },
  ],
  ['has one that we do not verify', { sink: { tls: certificate() }, keys: 'tls = encrypt', expected: fine }],
])
const known = privateAuthority()
const users = { anna: 'secret' }
faults
  .set('gets a login by a certificate of an authority in tls_ca', {
    sink: { tls: known, users },
    keys: '',
    login: true,
    expected: fine,
  })
  .set('would get a login by a certificate of its own making', {
    sink: { tls: certificate(), users },
    keys: '',
    login: true,
    expected: soft,
  })
  .set('gets a login unverified, for we say so', {
    sink: { tls: certificate(), users },
    keys: 'tls = encrypt',
    login: true,
    expected: fine,
  })
const names = [...faults.keys()]
const domainOf = (name: string) => `case${names.indexOf(name)}.test`

const sinks = new Map<string, Sink>()
let spare: Sink
/** The next hops of spare.test before the one that works. */
let broken: string[]
let lmtp: Sink
let haraka: Haraka
let directory: string
const lmtpAnswers = new Map<string, string[]>()

/** Only a next hop that says nothing is waited for; one that is only late on a busy machine must not look like it. */
const settings = (seconds: number) => `timeout = ${seconds}s\ntimeout_final = ${seconds}s\n`
const section = (domain: string, nextHop: string, keys = 'tls = none', timeout = 18) =>
  `[${domain}]\nnext_hop = ${nextHop}\n${settings(timeout)}${keys}\n`

async function sections(): Promise<string> {
  writeFileSync(join(directory, 'ca.pem'), known.ca)
  const parts = [`[main]\nanti_spoof_from = off\ntls_ca = ${join(directory, 'ca.pem')}\n`]
  for (const [name, { sink, keys, login }] of faults) {
    if (sink) sinks.set(name, await startSink(sink))
    const address = sinks.get(name)?.address() ?? `smtp://127.0.0.1:${await freePort()}`
    const hop = login ? address.replace('//', '//anna:secret@') : address
    parts.push(section(domainOf(name), hop, keys, /says nothing|garbage/.test(name) ? 1 : undefined))
  }
  broken = [`smtp://127.0.0.1:${await freePort()}`, sinks.get('drops at greeting')!.address()]
  parts.push(section('spare.test', [...broken, spare.address()].join(', ')))
  parts.push(section('lmtp.test', lmtp.address()))
  return parts.join('')
}

// Refuses recipients after everything else (100) or before (-50), as limits or greylisting would.
const refuser = `exports.register = function () {
  this.register_hook('rcpt_ok', 'early', -50)
  this.register_hook('rcpt_ok', 'late', 100)
  this.register_hook('rcpt', 'first')
}
const refuse = (word) => (next, connection, rcpt) => (rcpt.user.startsWith(word) ? next(DENY, '5.7.1 ' + word) : next())
exports.early = refuse('early')
exports.late = refuse('late')
exports.first = (next, connection, [rcpt]) => (rcpt.user.startsWith('first') ? next(DENYSOFT, '4.7.1 first') : next())
`

before(async () => {
  directory = mkdtempSync(join(tmpdir(), 'relay-guard-delivery-'))
  spare = await startSink()
  lmtp = await startSink({
    lmtp: true,
    path: join(directory, 'lmtp'),
    respond: (stage, _, { to }) =>
      stage === 'dot'
        ? to.map((path) => lmtpAnswers.get(path.replace(/[<>]/g, ''))?.shift() ?? '250 2.1.5 ok')
        : undefined,
  })
  haraka = await startHaraka({
    plugins: ['relay-guard/acl', 'relay-guard/domains', 'refuser'],
    localPlugins: { refuser },
    files: { 'relay-guard/domains.ini': await sections() },
  })
})
after(async () => {
  await haraka?.stop()
  await Promise.all([...sinks.values(), spare, lmtp].map((sink) => sink?.close()))
  rmSync(directory, { recursive: true, force: true })
})

async function deliver(to: string[], data?: string, server = haraka): Promise<Delivery> {
  const client = await SmtpClient.connect({ port: server.port, from: '127.10.0.1' })
  await client.ehlo()
  const delivery = await client.deliver({ from: 'a@evil.example', to, ...(data !== undefined && { data }) })
  await client.quit()
  return delivery
}

/** `code status` of the first refusal, or of the answer to the final dot. */
function outcome({ mail, rcpt, data, dot }: Delivery): string {
  const replies = [mail, ...rcpt, ...(data?.code === 354 ? [] : data ? [data] : []), ...(dot ? [dot] : [])]
  const reply = replies.find(({ code }) => code !== 250) ?? replies.at(-1)!
  return `${reply.code} ${reply.status}`.trim()
}

describe('a next hop that', () => {
  for (const [name, { expected }] of faults) {
    test(`${name} is answered ${expected.source}, with nothing lost or doubled`, async () => {
      const delivery = await deliver([`anna@${domainOf(name)}`])
      assert.match(outcome(delivery), expected, JSON.stringify(delivery))
      assert.equal(sinks.get(name)?.messages.length ?? 0, expected === fine ? 1 : 0)
    })
  }

  test('is dead or drops is passed over for the next one of its list', async () => {
    const dropping = sinks.get('drops at greeting')!
    const before = dropping.connections
    assert.match(outcome(await deliver(['anna@spare.test'])), fine)
    const once = dropping.connections - before
    assert.match(outcome(await deliver(['berta@spare.test'])), fine)
    assert.equal(dropping.connections - before, once, 'it backs off: the second message is not kept waiting')
    assert.equal(spare.messages.length, 2)
    const [dead, dropped] = broken.map((hop) => hop.slice('smtp://'.length))
    await haraka.waitForLog(new RegExp(`WARN.*next hop ${dead}: down \\(ECONNREFUSED\\), backs off 30 s`))
    await haraka.waitForLog(new RegExp(`WARN.*next hop ${dropped}: down \\(hung up\\), backs off 30 s`))
    assert.equal(haraka.output().match(new RegExp(`next hop ${dead}: down`, 'g'))?.length, 1)
    const forwarded = await haraka.waitForLog(/outcome=message.forwarded .*to=berta@spare.test/)
    assert.match(forwarded, new RegExp(`host=127.0.0.1:${spare.port} said="250 2.0.0 Queued"`))
  })

  test('is one of two in a transaction leaves the second for another transaction', async () => {
    const { rcpt, dot } = await deliver([
      `anna@${domainOf('is fine')}`,
      'anna@spare.test',
      `carl@${domainOf('is fine')}`,
    ])
    assert.deepEqual(
      [...rcpt, dot].map((reply) => reply?.code),
      [250, 452, 250, 250],
    )
    assert.equal(rcpt[1]?.status, '4.5.3')
    assert.equal(sinks.get('is fine')?.messages.at(-1)?.to.length, 2)
    assert.match(outcome(await deliver(['anna@spare.test'])), fine)
  })

  test('had no answer for one message is asked again for the next in the same session', async () => {
    const client = await SmtpClient.connect({ port: haraka.port, from: '127.10.0.1' })
    await client.ehlo()
    const to = (name: string) => ({ from: 'a@evil.example', to: [`anna@${domainOf(name)}`] })
    assert.match(outcome(await client.deliver(to('drops at rcpt'))), soft)
    assert.match(outcome(await client.deliver(to('is fine'))), fine)
    assert.match(outcome(await client.deliver(to('drops at dot'))), soft)
    assert.match(outcome(await client.deliver(to('is fine'))), fine)
    await client.quit()
  })
})

describe('a recipient that something else refuses after the next hop said yes', () => {
  const mixes: string[][] = [
    ['anna', 'late-refused', 'carl'],
    ['late-refused', 'anna'],
    ['anna', 'late-refused'],
    ['early-refused', 'anna', 'first-refused'],
    ['late-refused'],
    ['early-refused', 'late-refused', 'first-refused'],
  ]

  async function deliveredAsAccepted(server: Haraka, users: string[]) {
    const { messages } = sinks.get('is fine')!
    const before = messages.length
    const { rcpt, dot } = await deliver(
      users.map((user) => `${user}@${domainOf('is fine')}`),
      undefined,
      server,
    )
    const accepted = dot?.code === 250 ? users.filter((_, n) => rcpt[n]?.code === 250) : []
    const got = messages
      .slice(before)
      .flatMap(({ to }) => to.map((path) => path.replace(/^<?([^@]*)@.*$/, '$1')))
    assert.deepEqual(got.sort(), accepted.sort())
    return { accepted, rcpt }
  }

  for (const users of mixes) {
    test(`does not get the mail: ${users.join(', ')}`, async () => {
      const { accepted } = await deliveredAsAccepted(haraka, users)
      assert.deepEqual(accepted, users.filter((user) => !user.includes('refused')).sort())
    })
  }

  test('does not get the mail beside delay_deny, which moves refusals about', async () => {
    const delayed = await startHaraka({
      plugins: ['delay_deny', 'refuser', 'relay-guard/acl', 'relay-guard/domains'],
      localPlugins: { refuser },
      files: { 'relay-guard/domains.ini': section(domainOf('is fine'), sinks.get('is fine')!.address()) },
    })
    try {
      for (const users of mixes) await deliveredAsAccepted(delayed, users)
      assert.deepEqual(delayed.failures(), [])
    } finally {
      await delayed.stop()
    }
  })
})

describe('LMTP’s answers after the final dot', () => {
  const cases: [string, string[], RegExp, number][] = [
    ['all accepted are one 250', ['250 2.1.5 ok', '250 2.1.5 ok'], /^250/, 0],
    ['all refused are a refusal', ['550 5.2.1 off', '550 5.2.1 off'], /^5\d\d 5\.2\.1$/, 0],
    ['all deferred are a deferral', ['450 4.2.2 full', '450 4.2.2 full'], /^4\d\d 4\.2\.2$/, 0],
    [
      'mixed with a refusal are a 250, and nobody is sent a bounce',
      ['250 2.1.5 ok', '550 5.2.1 off'],
      /^250/,
      0,
    ],
    [
      'mixed with a deferral are a 250, and the rest goes out of the queue',
      ['250 2.1.5 ok', '450 4.2.2 full'],
      /^250/,
      1,
    ],
  ]
  for (const [name, [first, second], expected, later] of cases) {
    test(name, async () => {
      const before = lmtp.connections
      lmtpAnswers.set('one@lmtp.test', [first!])
      lmtpAnswers.set('two@lmtp.test', [second!])
      assert.match(outcome(await deliver(['one@lmtp.test', 'two@lmtp.test'])), expected)
      await haraka.queueEmpty()
      assert.ok(lmtp.connections - before <= 1 + later)
      assert.equal(lmtpAnswers.get('two@lmtp.test')?.length, 0)
      if (later)
        assert.deepEqual(
          lmtp.messages.at(-1)?.to.map((path) => path.replace(/[<>]/g, '')),
          ['two@lmtp.test'],
        )
    })
  }
})

test('no worker has died and no hook has failed in all this', async () => {
  assert.match(outcome(await deliver([`anna@${domainOf('is fine')}`])), fine)
  assert.deepEqual(haraka.failures(), [])
})
