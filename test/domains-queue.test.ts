// The hand-over of queued mail to our own client, and what is said where the next hop gave no answer.
import assert from 'node:assert/strict'
import { createReadStream, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { after, before, describe, test } from 'node:test'
import type { DecisionRecord } from '../core/decision'
import { onDecision } from '../core/haraka/reply'
import type { Address, QueuedMail } from '../core/haraka/types'
import { Limiter } from '../core/limiter'
import { CongestionFailure, failureReply, HostFailure } from '../core/next-hop/reply'
import { withDefaults } from '../core/next-hop/route'
import { services } from '../core/services'
import { readDomains } from '../plugins/domains/config'
import { bounce } from '../plugins/domains/hooks/bounce'
import { decide } from '../plugins/domains/hooks/forward'
import { never_to_mx, route } from '../plugins/domains/hooks/outbound'
import { HOOK_TIMEOUT } from '../plugins/domains/hooks/queue'
import { deliver } from '../plugins/domains/hooks/queued-mail'
import { runtime } from '../plugins/domains/hooks/runtime'
import { LONGEST_FINAL } from '../plugins/domains/routes'
import { type Domain, DomainTable } from '../plugins/domains/table'
import { arrayWork } from './support/array-work'
import { certificate } from './support/certificate'
import { addressOf, pluginOf } from './support/connection'
import { newClient, routeTo } from './support/next-hop'
import { readText } from './support/reading'
import { noRedis } from './support/redis'
import { type SinkOptions, startSink } from './support/sink'

const bouncesVerified = {
  value: { bounce: 'verified', domains: new DomainTable() },
} as unknown as typeof runtime.domains

/** A queued message for these recipients, and what Haraka is told of it. */
function queuedMail(recipients: string[], file: () => Readable) {
  const told = { failed: [] as string[], delivered: [] as unknown[][] }
  const mail = {
    todo: {
      domain: 'b.example',
      mail_from: addressOf('<a@a.example>'),
      rcpt_to: recipients.map((recipient) => addressOf(`<${recipient}>`)),
      notes: {},
    },
    refcount: 1,
    data_stream: file,
    lognotice: () => undefined,
    logerror: () => undefined,
    split_to_new_recipients(_recipients: Address[], _why: string, done: (part: QueuedMail) => void) {
      done(this as unknown as QueuedMail)
    },
    temp_fail: (why: string) => void told.failed.push(why),
    bounce: (why: string) => void told.failed.push(why),
    discard: () => undefined,
    delivered: (...facts: unknown[]) => void told.delivered.push(facts),
  }
  return { mail: mail as unknown as QueuedMail, told }
}

test('Haraka is told who took a queued message: address, port, protocol, TLS and login as they were', async (t) => {
  const tls = certificate()
  const users = { anna: 'secret' }
  const folder = mkdtempSync(join(tmpdir(), 'domains-queue-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'lmtp')
  const login = (address: string) => address.replace('//', '//anna:secret@')
  const cases: [SinkOptions, (address: string) => string, (port: number) => unknown[], boolean, boolean][] = [
    // TLS may be used and is not offered; the key of the route speaks of lmtp.
    [
      {},
      (address) => address.replace('127.0.0.1', 'localhost'),
      (port) => ['127.0.0.1', port, 'SMTP', 'localhost'],
      false,
      false,
    ],
    [{ tls }, (address) => address, (port) => ['127.0.0.1', port, 'SMTP', '127.0.0.1'], true, false],
    [{ tls, users }, login, (port) => ['127.0.0.1', port, 'SMTP', '127.0.0.1'], true, true],
    [{ users }, login, (port) => ['127.0.0.1', port, 'SMTP', '127.0.0.1'], false, true],
    [{ lmtp: true, path }, (address) => address, () => [path, 0, 'LMTP', path], false, false],
  ]
  for (const [options, hop, expected, secured, authenticated] of cases) {
    const sink = await startSink(options)
    t.after(() => sink.close())
    const client = newClient()
    t.after(() => client.closeAll())
    const { mail, told } = queuedMail(['b@b.example'], () => Readable.from('Subject: x\r\n\r\nx\r\n'))
    await deliver(mail, routeTo([hop(sink.address())], { key: 'lmtp', tls: 'may' }), client)
    assert.deepEqual(told.failed, [])
    const [ip, port, mode, host, response, ok, later, never, ...session] = told.delivered[0] ?? []
    assert.deepEqual([ip, port, mode, host], expected(sink.port))
    assert.deepEqual([session, (ok as unknown[]).length, later, never], [[secured, authenticated], 1, [], []])
    assert.match(String(response), /^(Queued|Delivered)$/)
  }
})

test('what the client is told where the next hop gave no answer depends on why', () => {
  const domain = {
    name: 'b.example',
    file: 'domains.ini',
    section: 'b.example',
    delivery: 'forward',
  } as Domain
  const choice = { delivery: 'forward', key: 'x', domain } as const
  const full = new CongestionFailure(
    'all connections of this worker are in use (connections = 20)',
    'all in use',
  )
  const busy = new CongestionFailure('mx:25: greeted with 421 too many connections', 'no more taken')
  const cases: [unknown, string, string, string][] = [
    [full, '4.4.5', 'recipient.next-hop-full', 'All connections to the next hop are in use, try again later'],
    [busy, '4.4.5', 'recipient.next-hop-full', 'The next hop takes no more connections now, try again later'],
    [
      new HostFailure('mx:25: ECONNREFUSED'),
      '4.4.1',
      'recipient.no-answer',
      'The next hop does not answer, try again later',
    ],
  ]
  for (const [failure, status, outcome, text] of cases) {
    const decision = decide(failureReply(failure), choice, 'recipient')
    assert.deepEqual(
      [decision.code, decision.status, decision.outcome, decision.text],
      [451, status, outcome, text],
    )
    assert.equal(decision.detail, (failure as Error).message)
    assert.equal(decision.rule.key, failure === full ? 'connections' : 'next_hop')
  }
})

test('the longest hand-over ends before Haraka answers in our place', () => {
  const { handOver, budget } = withDefaults({ name: '' })
  assert.ok(LONGEST_FINAL + 60_000 <= handOver, 'the longest answer fits')
  assert.ok(
    handOver + 2 * budget < HOOK_TIMEOUT * 1_000,
    'so do the hand-over and a look at the envelope before',
  )
})

test('a queue file that cannot be read ends neither the process nor a message, and is tried again', async (t) => {
  const sink = await startSink()
  t.after(() => sink.close())
  const { mail, told } = queuedMail(['b@b.example'], () => createReadStream('/nowhere/queue-file'))
  await deliver(mail, routeTo([sink.address()]), newClient())
  assert.match(told.failed.join(), /^451 4\.3\.0 /)
  assert.equal(sink.messages.length, 0)
})

test('each try of a queued message goes by the configuration in force, and by the MX where it names no route', async () => {
  const { mail } = queuedMail(['b@b.example'], () => Readable.from(''))
  const { plugin } = pluginOf()
  const at = (text: string) =>
    readText('domains.ini', text, (reading) =>
      readDomains(reading, { ownListener: () => false, hostName: 'mx' }),
    ).value
  const tried = (text: string) => {
    runtime.domains = { value: at(text) } as typeof runtime.domains
    const answers: unknown[] = []
    route.call(plugin, (code) => void answers.push(code), mail, 'b.example')
    return { answer: answers[0], ours: Object.hasOwn(mail, 'found_mx') }
  }
  assert.deepEqual(tried('[main]\nsmarthost = smtp://10.0.0.1\n'), { answer: OK, ours: true })
  assert.deepEqual(tried(''), { answer: undefined, ours: false })
  assert.deepEqual(tried('[b.example]\nnext_hop = smtp://10.0.0.2\n'), { answer: OK, ours: true })
})

test('queued mail without a way out waits, with one decision for each reason and a reason at each try', async () => {
  const { mail, told } = queuedMail(['b@b.example'], () => Readable.from(''))
  const { plugin } = pluginOf()
  const heard: string[] = []
  onDecision(({ outcome, ip, to }) => void heard.push(`${outcome} ${ip} ${to}`))
  Object.assign(mail.todo, { notes: { relay_guard: { ip: '203.0.113.9', mayRelay: false } } })
  const tryWith = async (text: string, anotherRoute = false) => {
    const config = readText('domains.ini', text, (reading) =>
      readDomains(reading, { ownListener: () => false, hostName: 'mx' }),
    ).value
    runtime.domains = { value: config } as typeof runtime.domains
    const answers: unknown[] = []
    route.call(plugin, (code) => void answers.push(code), mail, 'b.example')
    if (answers[0] === undefined && anotherRoute) return 'another route'
    if (answers[0] === undefined)
      never_to_mx.call(plugin, (code) => void answers.push(code), mail, 'b.example')
    await mail.found_mx?.([])
    return told.failed.splice(0).join()
  }
  const plugged = '[b.example]\ndelivery = plugin\n'
  const gone = '[main]\nsmarthost = smtp://127.0.0.1:9\n'
  for (const _ of [1, 2, 3])
    assert.equal(await tryWith(plugged), '451 4.3.5 No queue plugin takes mail for this domain')
  assert.equal(await tryWith(plugged, true), 'another route')
  for (const another of [false, true])
    assert.match(await tryWith(gone, another), /^451 4\.3\.5 b\.example is no longer one of our domains/)
  assert.deepEqual(heard, [
    'message.no-queue-plugin 203.0.113.9 b@b.example',
    'message.domain-gone 203.0.113.9 b@b.example',
  ])
})

test('a DSN is whole, and names nothing behind us', async () => {
  const { plugin } = pluginOf()
  runtime.domains = bouncesVerified
  const bounced = async (fields: object, message: string, more: object = {}) => {
    const { mail } = queuedMail(['b@b.example'], () => Readable.from(''))
    Object.assign(mail.todo.rcpt_to[0]!, fields)
    const error = Object.assign(new Error(message), more)
    Object.assign(mail.todo.notes, { relay_guard: { mayRelay: true } })
    await bounce.call(plugin, () => undefined, mail, error)
    const left = mail.todo.rcpt_to[0] as unknown as Record<string, unknown>
    const of = (name: string) => left[`dsn_${name}`]
    return [of('action'), of('status'), of('remote_mta'), of('smtp_response'), of('msg'), error.message]
  }
  const refusal = { dsn_status: '5.1.1', dsn_smtp_code: '550', dsn_smtp_response: 'unknown' }
  const split = Object.assign(addressOf('<b@b.example>'), refusal)
  const local = "Error splitting to new recipients: EACCES open '/var/spool/haraka/x'"
  const cases: [unknown[], unknown[]][] = [
    [await bounced({}, 'x'), ['failed', '5.0.0', undefined, undefined, undefined, 'x']],
    [
      await bounced({ ...refusal, dsn_action: 'failed', dsn_remote_mta: '10.0.0.1' }, 'x'),
      ['failed', '5.1.1', undefined, 'unknown', undefined, 'x'],
    ],
    [
      await bounced({ dsn_action: 'delayed', dsn_status: '4.4.1' }, 'x'),
      ['failed', '5.4.1', undefined, undefined, undefined, 'x'],
    ],
    // Core's own split has lost what was noted on the recipient, but names the recipients before it.
    [
      await bounced({}, 'x', { bounced_rcpt: [split] }),
      ['failed', '5.1.1', undefined, 'unknown', undefined, 'x'],
    ],
    [
      await bounced({}, 'x', { deferred_rcpt: [split] }),
      ['failed', '5.1.1', undefined, 'unknown', undefined, 'x'],
    ],
    [
      await bounced({ dsn_status: '5.3.0', dsn_msg: local }, `Too many failures (${local})`),
      ['failed', '5.3.0', undefined, undefined, 'Local problem', 'Local problem'],
    ],
  ]
  for (const [actual, expected] of cases) assert.deepEqual(actual, expected)
})

test('a DSN that is not sent is counted, with the id and the address of who brought the message', async () => {
  const { mail } = queuedMail(['b@b.example'], () => Readable.from(''))
  const { plugin } = pluginOf()
  runtime.domains = bouncesVerified
  const heard: DecisionRecord[] = []
  onDecision((decision) => void heard.push(decision))
  const bounced = async (memory?: object) => {
    Object.assign(mail.todo, {
      uuid: '7F3A0C91-0000-0000-0000-000000000000.2.1',
      notes: { relay_guard: memory },
    })
    const answers: unknown[] = []
    await bounce.call(plugin, (code) => void answers.push(code), mail, new Error('x'))
    return answers[0]
  }
  assert.equal(await bounced({ mayRelay: true, spfPass: false }), CONT)
  assert.equal(await bounced({ ip: '203.0.113.9', mayRelay: false, spfPass: true }), CONT)
  assert.deepEqual(heard, [])
  assert.equal(await bounced({ ip: '203.0.113.9', mayRelay: false, spfPass: false }), OK)
  const [{ outcome, id, ip, from, to, accepted } = {} as DecisionRecord] = heard
  assert.deepEqual(
    { outcome, id, ip, from, to, accepted },
    {
      outcome: 'bounce.dropped',
      id: '7F3A0C91.2',
      ip: '203.0.113.9',
      from: 'a@a.example',
      to: 'b@b.example',
      accepted: false,
    },
  )
  assert.equal(await bounced(), OK)
  assert.equal(heard.length, 2)
})

describe('DSNs to one domain', () => {
  const known = { relay_guard: { ip: '203.0.113.9', mayRelay: false, spfPass: true } }

  /** A DSN of a message that core discards, and puts back, as it does; `waits`: in seconds. */
  async function bounced(notes: object = known, error = 'x') {
    const { mail } = queuedMail(['b@b.example'], () => Readable.from(''))
    const { plugin } = pluginOf()
    const waits: number[] = []
    let isLost = false
    Object.assign(mail.todo, { notes })
    Object.assign(mail, {
      discard: () => {
        isLost = --mail.refcount === 0
      },
      deferred_respond: async (_code: number, _text: string, { delay }: { delay: number }) =>
        void waits.push(delay),
    })
    let answer: unknown
    const next = (code?: number) => {
      answer = code
      if (code !== CONT) mail.discard()
    }
    await bounce.call(plugin, next, mail, new Error(error))
    return { answer, waits, isLost }
  }

  before(() => {
    runtime.domains = bouncesVerified
    services.limiter = new Limiter({ settings: noRedis, log: () => undefined })
  })
  after(async () => {
    await services.limiter?.close()
    services.limiter = undefined
  })

  test('are 500 in an hour; the next ones wait, as many as have room, and what is then dropped is counted', async () => {
    const heard: DecisionRecord[] = []
    onDecision((decision) => void heard.push(decision))
    for (let n = 0; n < 500; n++) assert.equal((await bounced()).answer, CONT)
    assert.equal(heard.length, 0)
    for (let n = 0; n < 1000; n++) {
      const { answer, waits, isLost } = await bounced()
      assert.deepEqual([answer, waits.length, isLost], [OK, 1, false])
      assert.ok(waits[0]! >= 1 && waits[0]! <= 7200, `${waits}`)
    }
    const { answer, waits, isLost } = await bounced()
    assert.deepEqual([answer, waits, isLost], [OK, [], true])
    const outcomes = heard.map(({ outcome }) => outcome)
    assert.deepEqual(
      ['bounce.limited', 'bounce.dropped'].map((name) => outcomes.filter((each) => each === name).length),
      [1000, 1],
    )
    assert.match(
      heard[0]?.reply ?? '',
      /^450 4\.7\.1 Too many DSNs to a\.example \(500\/1h\), trying again in/,
    )
    assert.match(heard.at(-1)?.reply ?? '', /^550 5\.7\.1 Too many DSNs to a\.example .*no more can wait$/)
  })

  test('do not wait again where the queue did not take the message back', async () => {
    const { waits, isLost } = await bounced(known, 'Error re-queueing email: ENOENT')
    assert.deepEqual([waits, isLost], [[], true])
  })

  test('wait where judging them fails, and none is sent meanwhile', async () => {
    runtime.domains = { value: undefined as unknown } as typeof runtime.domains
    const { answer, waits, isLost } = await bounced()
    assert.deepEqual([answer, waits, isLost], [OK, [600], false])
    runtime.domains = bouncesVerified
  })
})

test('four times the recipients of a queued message are four times the work, also where LMTP refused half of them', async (t) => {
  const sink = await startSink()
  t.after(() => sink.close())
  const client = newClient()
  t.after(() => client.closeAll())
  const works: number[] = []
  for (const count of [200, 800]) {
    const recipients = Array.from({ length: count }, (_, index) => `b${index}@b.example`)
    const { mail, told } = queuedMail(recipients, () => Readable.from('Subject: x\r\n\r\nx\r\n'))
    const refused = recipients.slice(count / 2).map((recipient) => [recipient, { code: 550, text: 'no' }])
    mail.todo.notes['relay_guard'] = { refused: Object.fromEntries(refused) }
    works.push(await arrayWork(() => deliver(mail, routeTo([sink.address()]), client)))
    const [, , , , , good, , never] = told.delivered[0] ?? []
    assert.deepEqual(
      [good, never].map((list) => (list as unknown[]).length),
      [count / 2, count / 2],
    )
  }
  assert.ok(works[1]! < 6 * works[0]!, `${works}`)
})
