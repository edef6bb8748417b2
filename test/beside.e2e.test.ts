// Beside stock plugins that decide something: what each decides, and what comes of it, with our lines behind and in front.
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { type Haraka, startHaraka } from './support/haraka'
import { RedisServer } from './support/redis'
import { type Sink, type SinkMessage, startSink } from './support/sink'
import { type Delivery, SmtpClient } from './support/smtp-client'

const STRANGER = '127.10.0.1'
const GREYLISTED = '127.11.0.1'
const LISTED = '127.12.0.1'
const BAD = '127.13.0.1'
const RELAY = '127.30.0.1'

/** In place of DNS, which no test has: answers by name, and no such name for all others. */
const stubDns = `
const dns = require('node:dns')
const answers = {
  resolve4: { '1.0.12.127.bl.test': ['127.0.0.2'] },
  resolveTxt: { 'spf.test': [['v=spf1 -all']], 'ours.test': [['v=spf1 ip4:${STRANGER} -all']] },
}
for (const target of [dns.promises.Resolver.prototype, dns.promises])
  for (const type of ['resolve', 'resolve4', 'resolve6', 'resolveTxt', 'resolveMx', 'reverse'])
    target[type] = async (name) => {
      const answer = answers[type]?.[name.replace(/\\.$/, '')]
      if (answer) return answer
      throw Object.assign(new Error('query ENOTFOUND ' + name), { code: 'ENOTFOUND' })
    }
exports.register = function () { this.register_hook('connect_init', 'open', -100) }
// 127.0.0.0/8 counts as private, and most plugins spare private clients.
exports.open = (next, connection) => { connection.remote.is_private = false; next() }
`
/** What scanners do: a note, or a bad mark for karma, by the Subject. */
const scanner = `
exports.hook_data_post = (next, connection) => {
  const { notes, header } = connection.transaction
  const subject = header.get('Subject').trim()
  if (subject.startsWith('quarantine')) notes.quarantine = true
  if (subject === 'quarantine and refuse') notes.quarantine_action = [DENY, '5.7.1 kept']
  if (subject === 'discard') notes.discard = true
  if (subject === 'bad karma') connection.results.incr({ name: 'karma' }, { score: -100 })
  next()
}
`
const aliases = {
  'drop@ours.test': { action: 'drop' },
  'one@ours.test': { action: 'alias', to: 'anna@ours.test' },
  'both@ours.test': { action: 'alias', to: ['anna@ours.test', 'berta@other.test', 'carl@queued.test'] },
  'out@ours.test': { action: 'alias', to: 'secret@private.example' },
  'mixed@ours.test': { action: 'alias', to: ['anna@ours.test', 'secret@private.example'] },
  'turned@ours.test': { action: 'alias', to: ['secret@private.example', 'anna@ours.test'] },
  'gone@ours.test': { action: 'alias', to: ['anna@ours.test', 'nobody@ours.test'] },
}

let redis: RedisServer
let ours: Sink
let other: Sink
let internet: Sink
let trap: Sink
let lmtp: Sink
let directory: string
const lmtpLater = new Set<string>()

before(async () => {
  redis = await RedisServer.start()
  directory = mkdtempSync(join(tmpdir(), 'relay-guard-beside-'))
  const respond = (stage: string, argument: string) =>
    stage === 'rcpt' && argument.includes('nobody') ? '550 5.1.1 <nobody@ours.test> is unknown' : undefined
  ours = await startSink({ respond })
  other = await startSink()
  internet = await startSink()
  trap = await startSink()
  lmtp = await startSink({
    lmtp: true,
    path: join(directory, 'lmtp'),
    respond: (stage, _, { to }) =>
      stage === 'dot'
        ? to.map((path) => (lmtpLater.delete(path) ? '451 4.2.2 later' : '250 2.0.0 ok'))
        : undefined,
  })
})
after(async () => {
  await Promise.all([ours, other, internet, trap, lmtp].map((sink) => sink?.close()))
  await redis?.stop()
  rmSync(directory, { recursive: true, force: true })
})

const start = (plugins: string[]): Promise<Haraka> => {
  const { privateKey } = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  })
  const server = `host=127.0.0.1\nport=${redis.port}\n`
  const section = (name: string, sink: Sink, rest = '') =>
    `[${name}]\nnext_hop = ${sink.address()}\ntls = none\n${rest}`
  return startHaraka({
    plugins: ['stub_dns', 'scanner', 'redis', ...plugins],
    localPlugins: { stub_dns: stubDns, scanner },
    files: {
      'relay-guard/acl.ini': '[relay]\n127.30.0.0/16\n',
      'relay-guard/domains.ini': [
        `[main]\nsmarthost = ${internet.address()}\nsmarthost_tls = none\nanti_spoof_from = off\n`,
        section('ours.test', ours),
        section('other.test', other),
        section('queued.test', other, 'delivery = queue\n'),
        section('lmtp.test', lmtp),
      ].join(''),
      'aliases.json': JSON.stringify(aliases),
      'redis.ini': `[server]\n${server}[pubsub]\n${server}`,
      'karma.ini': `[redis]\n${server}[tarpit]\ndelay=0.001\n[thresholds]\nnegative=-8\n[deny]\nhooks=queue,queue_outbound\n[deny_excludes]\nplugins=spf,dns-list,greylist,headers,delay_deny\nhooks=rcpt,queue\n`,
      'greylist.ini': `text=Greylisted\n[redis]\n${server}db=11\n[skip]\ndnswlorg=false\n[period]\nblack=850\ngrey=90000\nwhite=3024000\n[ip_whitelist]\n${STRANGER}\n${LISTED}\n${BAD}\n`,
      'dns-list.ini': 'periodic_checks=0\nzones=bl.test\nsearch=first\n[bl.test]\nreject=true\n',
      'spf.ini': '[deny]\nmfrom_fail=true\n',
      'headers.ini':
        'required=From\n[check]\nduplicate_singular=false\nmissing_required=true\nfrom_match=false\n[reject]\nmissing_required=true\n',
      'dkim.ini': '[sign]\nenabled=true\n[verify]\nenabled=false\n',
      'dkim/ours.test/private': privateKey,
      'dkim/ours.test/selector': 'sel\n',
      'quarantine.ini': `quarantine_path=${join(directory, 'quarantine')}\n`,
      'smtp_forward.ini': `host=127.0.0.1\nport=${trap.port}\nenable_outbound=true\n`,
    },
  })
}

const stock = [
  'dns-list',
  'spf',
  'karma',
  'aliases',
  'greylist',
  'headers',
  'dkim',
  'queue/quarantine',
  'queue/discard',
  'queue/smtp_forward',
]
const own = ['relay-guard/acl', 'relay-guard/domains']

interface Row {
  /** What another plugin decides. */
  name: string
  from?: string
  to?: string[]
  ip?: string
  subject?: string
  header?: string
  /** The first refusal, or the answer to the final dot. */
  answer: RegExp
  /** What arrives: `SINK: recipients`. */
  arrives?: string[]
  /** Whether what arrives bears our DKIM signature. */
  signed?: boolean
  /** Where delay_deny is: it is before the plugin whose denial it holds back, and forgets it. */
  forgotten?: true
  /** Copies in the quarantine. */
  kept?: number
}

const PRIVATE = /^(?!.*(?:private|secret|anna|nobody@))/s
const inNameOf = (alias: string) =>
  new RegExp(
    `${PRIVATE.source}550[- ]5\\.7\\.1 [^\\n]*<${alias}@ours\\.test>[^\\n]*\\(id [0-9A-F]{8}\\.1\\)`,
    's',
  )

const rows: Row[] = [
  {
    name: 'nothing: a stranger writes to us',
    answer: /^250/,
    arrives: ['ours: anna@ours.test'],
    signed: false,
  },
  {
    name: "dkim signs: not a stranger's queued mail with our domain in From:",
    to: ['carl@queued.test'],
    answer: /^250/,
    arrives: ['other: carl@queued.test'],
    signed: false,
  },
  {
    name: "dkim signs: not what LMTP leaves to the queue of a stranger's mail",
    to: ['now@lmtp.test', 'later@lmtp.test'],
    answer: /^250/,
    arrives: ['lmtp: now@lmtp.test', 'lmtp: later@lmtp.test'],
    signed: false,
  },
  {
    name: 'dkim signs: the mail of a client that may relay',
    ip: RELAY,
    to: ['v@victim.example', 'anna@ours.test'],
    answer: /^250/,
    arrives: ['internet: v@victim.example', 'ours: anna@ours.test'],
    signed: true,
  },
  { name: 'karma refuses at the queue', ip: BAD, subject: 'bad karma', answer: /^550 very bad karma/ },
  {
    name: 'karma refuses at the queue of the relayed',
    ip: '127.30.0.2',
    subject: 'bad karma',
    answer: /^550 very bad karma/,
  },
  { name: 'a note says discard', subject: 'discard', answer: /^250/ },
  { name: 'aliases drops', to: ['drop@ours.test'], answer: /^250/ },
  {
    name: 'quarantine keeps a copy',
    subject: 'quarantine',
    answer: /^250/,
    arrives: ['ours: anna@ours.test'],
    kept: 1,
  },
  {
    name: 'quarantine keeps it and refuses',
    subject: 'quarantine and refuse',
    answer: /^550 5\.7\.1 kept/,
    kept: 1,
  },
  { name: 'an alias to one of us', to: ['one@ours.test'], answer: /^250/, arrives: ['ours: anna@ours.test'] },
  {
    name: 'an alias to three of us with three ways to go',
    to: ['both@ours.test'],
    answer: /^250/,
    arrives: ['ours: anna@ours.test', 'other: berta@other.test', 'other: carl@queued.test'],
  },
  {
    name: 'the same after a plain recipient',
    to: ['dora@other.test', 'both@ours.test'],
    answer: /^250/,
    arrives: ['other: dora@other.test berta@other.test', 'ours: anna@ours.test', 'other: carl@queued.test'],
  },
  {
    name: 'the same from a client that may relay',
    ip: RELAY,
    to: ['both@ours.test'],
    answer: /^250/,
    arrives: ['ours: anna@ours.test', 'other: berta@other.test', 'other: carl@queued.test'],
  },
  { name: 'an alias to the outside, for a stranger', to: ['out@ours.test'], answer: inNameOf('out') },
  {
    name: 'an alias to the outside, for a client that may relay',
    ip: RELAY,
    to: ['out@ours.test'],
    answer: /^250/,
    arrives: ['internet: secret@private.example'],
  },
  { name: 'an alias to us and the outside', to: ['mixed@ours.test'], answer: inNameOf('mixed') },
  {
    name: 'such an alias beside a recipient of ours: nothing of it is left behind',
    to: ['turned@ours.test', 'dora@ours.test', 'mixed@ours.test'],
    answer: inNameOf('turned'),
    arrives: ['ours: dora@ours.test'],
  },
  {
    name: 'an alias to somebody whom the next hop does not know',
    to: ['gone@ours.test'],
    answer: new RegExp(`${PRIVATE.source}550[- ]5\\.1\\.1 <gone@ours\\.test>[^\\n]*\\(id`, 's'),
  },
  { name: 'greylist defers', ip: GREYLISTED, answer: /^4\d\d .*Greylisted/s, forgotten: true },
  { name: 'spf refuses', from: 'a@spf.test', answer: /^550 (?:.*SPF|very bad karma)/is },
  { name: 'spf passes one of us', from: 'boss@ours.test', answer: /^250/, arrives: ['ours: anna@ours.test'] },
  { name: 'dns-list refuses', ip: LISTED, answer: /^5\d\d .*bl\.test/s },
  { name: 'headers refuses', header: 'Subject: x\r\n', answer: /^550 .*From/s },
  {
    name: 'nothing: the message is refused by us',
    header: 'From: a\rb\r\n',
    answer: /^554[- ]5\.6\.0 .*\(id/s,
  },
]

const first = ({ mail, rcpt, data, dot }: Delivery): string =>
  [mail, ...rcpt, ...(data?.code === 354 ? [] : data ? [data] : []), ...(dot ? [dot] : [])]
    .reduce((said, reply) => (said.code >= 400 ? said : reply))
    .lines.join('\n')

async function send(haraka: Haraka, row: Row): Promise<string> {
  const client = await SmtpClient.connect({ port: haraka.port, from: row.ip ?? STRANGER })
  try {
    if (client.greeting.code >= 400) return client.greeting.lines.join('\n')
    await client.ehlo()
    const header =
      row.header ??
      `From: boss@ours.test\r\nSubject: ${row.subject ?? 'x'}\r\nDate: ${new Date().toUTCString()}\r\n`
    return first(
      await client.deliver({
        from: row.from ?? 'a@evil.example',
        to: row.to ?? ['anna@ours.test'],
        data: `${header}\r\nbody\r\n`,
      }),
    )
  } finally {
    await client.quit()
  }
}

const copies = () => {
  try {
    return readdirSync(join(directory, 'quarantine'), { recursive: true }).filter((name) =>
      /^\d{8}\/[0-9A-F-]{36}\.\d+$/.test(String(name)),
    ).length
  } catch {
    return 0
  }
}

for (const [where, plugins, delays] of [
  ['behind them', [...stock, ...own], false],
  ['in front of them', [...own, ...stock], false],
  ['behind them and delay_deny', ['delay_deny', ...stock, ...own], true],
] as const) {
  describe(`our lines ${where}`, () => {
    let haraka: Haraka
    before(async () => {
      await redis.run('FLUSHALL')
      haraka = await start([...plugins])
    })
    after(() => haraka?.stop())

    for (const row of rows) {
      test(`${row.name}: ${row.answer.source.replace(PRIVATE.source, '')}`, async () => {
        const sinks = { ours, other, internet, trap, lmtp }
        for (const sink of Object.values(sinks)) sink.messages.length = 0
        lmtpLater.add('later@lmtp.test')
        const before = copies()
        const forgotten = delays && row.forgotten
        assert.match(await send(haraka, row), forgotten ? /^250/ : row.answer)
        await haraka.queueEmpty()
        const arrived = Object.entries(sinks).flatMap(([name, { messages }]) =>
          messages.map((message: SinkMessage) => ({ text: `${name}: ${message.to.join(' ')}`, message })),
        )
        assert.deepEqual(
          arrived.map(({ text }) => text).sort(),
          [...(row.arrives ?? (forgotten ? ['ours: anna@ours.test'] : []))].sort(),
        )
        if (row.signed !== undefined)
          for (const { text, message } of arrived)
            assert.equal(/^DKIM-Signature:.*d=ours\.test/ims.test(message.data.toString()), row.signed, text)
        assert.equal(copies() - before, row.kept ?? 0)
      })
    }

    test('the stock queue plugin that is left in config/plugins is told of at the start, and gets nothing', () => {
      assert.match(haraka.output(), /config\/plugins: queue\/smtp_forward gets no mail/)
      assert.equal(trap.connections, 0)
      assert.deepEqual(haraka.failures(), [])
    })
  })
}
