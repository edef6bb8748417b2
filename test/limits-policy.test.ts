import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Decision, printRule } from '../core/decision'
import { parseIni } from '../core/ini/parse'
import type { Step } from '../core/limiter/contract'
import { MemoryStore } from '../core/limiter/memory-store'
import { resultOf, type CheckResult as Said } from '../core/limiter/result'
import type { Mailbox, Party as WholeParty } from '../core/party'
import { type LimitsConfig, readLimits } from '../plugins/limits/config'
import * as logins from '../plugins/limits/policy/failed-logins'
import * as plans from '../plugins/limits/policy/plan'
import { type Plan, stepOf } from '../plugins/limits/policy/plan'
import { anotherRecipient, blocked, tooManyErrors, withRetryAfter } from '../plugins/limits/policy/refusal'
import { judge, type LimitVerdict } from '../plugins/limits/policy/verdict'
import { pick, randomFrom } from './support/random'

/** What limits reads of a party, and the recipient that is asked about. */
interface Party {
  ip: string
  relay: boolean
  user?: string
  sender?: Mailbox
  believed?: boolean
  recipient?: Mailbox
}

const whole = ({ relay, believed, recipient: _, ...known }: Party): WholeParty => ({
  ...known,
  tls: false,
  classification: { class: relay ? 'relay' : 'nobody' },
  mayRelay: relay,
  senderSpf: believed ? 'pass' : 'no',
})

const connecting = (config: LimitsConfig, party: Party, id: string) =>
  plans.connecting(config, whole(party), id)
const mailing = (config: LimitsConfig, party: Party, size?: number) =>
  plans.mailing(config, whole(party), size)
const addressing = (config: LimitsConfig, party: Party) =>
  plans.addressing(config, whole(party), party.recipient ?? { user: '', host: '' })
const ending = (config: LimitsConfig, party: Party, bytes: number, domains: string[]) =>
  plans.ending(config, whole(party), bytes, domains)
const refusing = (config: LimitsConfig, party: Party, cost: number) =>
  plans.refusing(config, whole(party), cost)
const loggingIn = (config: LimitsConfig, party: Party) => logins.loggingIn(config, whole(party))
const failedLogin = (config: LimitsConfig, party: Party, known: boolean) =>
  logins.failedLogin(config, whole(party), known)
const loggedIn = ({ user, ...party }: Party & { user: string }) => logins.loggedIn({ ...whole(party), user })

const START = 1_800_000_000_000
const BY = 'host/1'
const STRANGER: Party = { ip: '203.0.113.9', relay: false }

function configOf(text: string): LimitsConfig {
  const errors: Parameters<typeof parseIni>[2] = []
  const sections = parseIni('limits.ini', text, errors)
  const config = readLimits({ sections, errors, open: () => Buffer.alloc(0) })
  assert.deepEqual(errors, [])
  return config
}

/** A server's limits: a store in memory with a clock that stands still until it is moved. */
class Server {
  readonly config: LimitsConfig
  readonly store = new MemoryStore()
  now = START

  constructor(text: string) {
    this.config = configOf(text)
  }

  async step(op: Step['op'], plan: Plan, more: Partial<Step> = {}): Promise<Said> {
    const step = { op, by: BY, ...stepOf(plan), ...more }
    return resultOf(step, await this.store.step(step, this.now))
  }

  async ask(plan: Plan, op: Step['op'] = 'check'): Promise<LimitVerdict> {
    return judge(this.config, plan, await this.step(op, plan))
  }

  /** The reply to an event, `ok` where it passes. */
  async reply(plan: Plan, op: Step['op'] = 'check'): Promise<string> {
    const { refusal } = await this.ask(plan, op)
    return refusal ? said(withRetryAfter(refusal)) : 'ok'
  }
}

const said = ({ code, status, text, close }: Decision): string =>
  `${code} ${status} ${text}${close ? ' (closing)' : ''}`

const mailbox = (address: string) => {
  const at = address.lastIndexOf('@')
  return { user: address.slice(0, at), host: address.slice(at + 1) }
}

/** What a plan counts: `WHAT WHOM SUBJECT`. */
const counted = ({ counts }: Plan): string[] =>
  counts
    .filter(({ reason }) => reason)
    .map(({ charge }) => `${charge.what}: ${charge.scope} ${charge.subject}`)

const everything = [
  ...['connections', 'messages', 'recipients', 'bytes', 'failed logins', 'refused recipients'].flatMap(
    (what) => ['ip', 'network'].map((scope) => `[${what} per ${scope}]\nlimit = 9/1m`),
  ),
  ...['messages', 'recipients', 'bytes'].flatMap((what) =>
    ['user', 'sender', 'sender domain'].map((scope) => `[${what} per ${scope}]\nlimit = 9/1m`),
  ),
  '[failed logins per user]\nlimit = 9/1m',
  '[recipients per recipient]\nlimit = 9/1m\n[recipients per recipient domain]\nlimit = 9/1m',
  '[bytes per recipient domain]\nlimit = 9/1m',
  '[concurrent connections per ip]\nlimit = 9\n[concurrent connections per network]\nlimit = 9',
].join('\n')

test('Each event counts for all whom it concerns, in one step', () => {
  const config = configOf(everything)
  const party: Party = {
    ...STRANGER,
    user: 'Bob@example.com',
    sender: mailbox('Anna+news@Example.org'),
    believed: true,
    recipient: mailbox('"Carl"@EXAMPLE.net'),
  }
  const clients = (what: string) => [`${what}: ip 203.0.113.9`, `${what}: network 203.0.113.0/24`]
  const all = (what: string) => [
    ...clients(what),
    `${what}: user bob@example.com`,
    `${what}: sender anna@example.org`,
    `${what}: sender domain example.org`,
  ]
  const connect = connecting(config, STRANGER, 'host/1/uuid')
  assert.deepEqual(counted(connect), clients('connections'))
  assert.deepEqual(
    connect.slots.map(({ lease }) => lease),
    [
      { scope: 'ip', subject: '203.0.113.9', id: 'host/1/uuid', limit: 9 },
      { scope: 'network', subject: '203.0.113.0/24', id: 'host/1/uuid', limit: 9 },
    ],
  )
  assert.deepEqual(counted(mailing(config, party)), all('messages'))
  assert.deepEqual(counted(mailing(config, party, 5)).sort(), [...all('messages'), ...all('bytes')].sort())
  assert.deepEqual(
    counted(addressing(config, party)).sort(),
    [
      ...all('recipients'),
      ...clients('refused recipients'),
      'recipients: recipient carl@example.net',
      'recipients: recipient domain example.net',
    ].sort(),
  )
  assert.deepEqual(counted(ending(config, party, 5, ['a.example', 'A.example', 'b.example', ''])), [
    ...all('bytes'),
    'bytes: recipient domain a.example',
    'bytes: recipient domain b.example',
  ])
  assert.deepEqual(counted(refusing(config, party, 3)), clients('refused recipients'))
})

test('Where nothing is limited, a block of anyone concerned still holds', () => {
  const config = configOf('[main]\nipv6_prefix = 64\n')
  const plan = addressing(config, {
    ...STRANGER,
    user: 'bob',
    sender: mailbox('a@b.example'),
    believed: true,
    recipient: mailbox('c@d.example'),
  })
  assert.deepEqual(
    plan.counts.map(({ charge }) => [charge.scope, charge.subject, charge.limit]),
    [
      ['ip', '203.0.113.9', { windows: [] }],
      ['network', '203.0.113.0/24', { windows: [] }],
      ['user', 'bob', { windows: [] }],
      ['sender', 'a@b.example', { windows: [] }],
      ['sender domain', 'b.example', { windows: [] }],
      ['recipient', 'c@d.example', { windows: [] }],
      ['recipient domain', 'd.example', { windows: [] }],
    ],
  )
})

test('A sender that nobody vouches for, and the null sender, count for the address they come from', () => {
  const config = configOf(
    '[messages per sender]\nlimit = 9/1m\n203.example = unlimited\n[messages per sender domain]\nlimit = 9/1m\n',
  )
  const at = (sender: string, believed: boolean, ip = '203.0.113.9') =>
    counted(mailing(config, { ip, relay: false, believed, sender: mailbox(sender) }))
  const address = ['messages: sender 203.0.113.9', 'messages: sender domain 203.0.113.9']
  assert.deepEqual(at('a@203.example', false), address)
  assert.deepEqual(at('@', true), address)
  assert.deepEqual(at('@b.example', true), address)
  assert.deepEqual(at('postmaster@', true), address)
  assert.deepEqual(at('a@[203.0.113.9]', true), address)
  assert.deepEqual(at('a@b.example', false, '2001:db8::1'), [
    'messages: sender 2001:db8::/64',
    'messages: sender domain 2001:db8::/64',
  ])
  assert.deepEqual(at('A+x@B.example.', true), [
    'messages: sender a@b.example',
    'messages: sender domain b.example',
  ])
})

test('Relay clients have no limits of connections and refused recipients, unless exempt_relay is off', () => {
  const relay: Party = { ...STRANGER, relay: true, recipient: mailbox('a@b.example') }
  for (const exempt of [true, false]) {
    const config = configOf(`[main]\nexempt_relay = ${exempt}\n${everything}\n`)
    const plan = connecting(config, relay, 'id')
    assert.deepEqual([counted(plan).length, plan.slots.length], exempt ? [0, 0] : [2, 2])
    assert.equal(counted(refusing(config, relay, 1)).length, exempt ? 0 : 2)
    const recipients = counted(addressing(config, relay))
    assert.equal(recipients.includes('recipients: ip 203.0.113.9'), true)
    assert.equal(recipients.includes('refused recipients: ip 203.0.113.9'), !exempt)
  }
})

test('No two names are counted as one: not those of clients, nor an address and a name', () => {
  const random = randomFrom(3)
  const pieces = [
    'a',
    'b@',
    '@',
    '.',
    '"',
    '\\',
    ' ',
    '+',
    '/',
    '203.0.113.9',
    '::',
    '203.0.113.0/24',
    '{',
    '}',
    '%',
    '\u0130',
    'ß',
    '[',
    ']',
    'x.example',
  ]
  const word = () => Array.from({ length: 1 + Math.floor(random() * 4) }, () => pick(pieces, random)).join('')
  const config = configOf(everything)
  const origins = new Map<string, string>()
  const claim = (subject: string, origin: string) => {
    assert.equal(origins.get(subject) ?? origin, origin, `${subject} is of ${origin}`)
    origins.set(subject, origin)
  }
  for (let round = 0; round < 3000; round++) {
    const ip = pick(['203.0.113.9', '203.0.113.1', '2001:db8::1', '2001:db8:0:1::1'], random)
    const [local, host, user] = [word(), pick(['a.example', 'b.example', '[203.0.113.9]'], random), word()]
    const believed = random() < 0.5
    const party = { ip, relay: false, user, believed, sender: { user: local, host } }
    for (const { charge } of mailing(config, party).counts) {
      if (charge.scope !== 'sender' && charge.scope !== 'sender domain') continue
      const isName = believed && !host.startsWith('[')
      claim(`${charge.scope} ${charge.subject}`, isName ? 'a name' : `the address ${ip}`)
    }
    const place = `${user.toLowerCase()} in ${ip.slice(0, 8)}`
    for (const { charge } of loggedIn(party).counts) claim(`${charge.scope} ${charge.subject}`, place)
    for (const { charge } of failedLogin(config, party, false).counts) {
      if (charge.scope === 'user') claim(`${charge.scope} ${charge.subject}`, user.toLowerCase())
    }
  }
})

test('A refusal is said with the code of its event and of what is counted', async () => {
  const party: Party = {
    ...STRANGER,
    user: 'bob@example.com',
    sender: mailbox('a@b.example'),
    believed: true,
    recipient: mailbox('c@d.example'),
  }
  const events: [string, (config: LimitsConfig) => Plan, string, string][] = [
    [
      'connections per ip',
      (config) => connecting(config, party, 'id'),
      '421 4.7.0 Too many connections from 203.0.113.9 (1 in 1m), try again in 66 s (closing)',
      '554 5.7.1 (closing)',
    ],
    [
      'messages per network',
      (config) => mailing(config, party),
      '450 4.7.1 Too many messages from 203.0.113.0/24 (1 in 1m), try again in 66 s',
      '550 5.7.1',
    ],
    [
      'recipients per user',
      (config) => addressing(config, party),
      '450 4.7.1 Too many recipients from bob@example.com (1 in 1m), try again in 66 s',
      '550 5.7.1',
    ],
    [
      'recipients per recipient',
      (config) => addressing(config, party),
      '450 4.7.1 Too many recipients to c@d.example (1 in 1m), try again in 66 s',
      '',
    ],
    [
      'bytes per ip',
      (config) => ending(config, party, 1, []),
      '452 4.3.1 Too many bytes from 203.0.113.9 (1 in 1m), try again in 66 s',
      '550 5.7.1',
    ],
    [
      'bytes per sender domain',
      (config) => ending(config, party, 1, []),
      '452 4.3.1 Too many bytes from b.example (1 in 1m), try again in 66 s',
      '',
    ],
  ]
  for (const [section, plan, deferred, rejected] of events) {
    const server = new Server(`[${section}]\nlimit = 1/1m\n`)
    assert.equal(await server.reply(plan(server.config)), 'ok', section)
    assert.equal(await server.reply(plan(server.config)), deferred)
    const refusal = (await server.ask(plan(server.config))).refusal!
    assert.equal(printRule(refusal.decision.rule), `limits.ini [${section}] limit`)
    assert.equal(refusal.wait, 66_000)
    if (rejected === '') continue
    const harder = new Server(`[${section}]\nlimit = 1/1m\naction = reject\n`)
    await harder.ask(plan(harder.config))
    const { code, status, close } = (await harder.ask(plan(harder.config))).refusal!.decision
    assert.equal(`${code} ${status}${close ? ' (closing)' : ''}`, rejected)
  }
})

test('Of several refusals that for good is said, else that which lasts longest', async () => {
  const limits = '[messages per ip]\nlimit = 1/1m\n[messages per network]\nlimit = 1/1h\n'
  const server = new Server(`${limits}[messages per user]\nlimit = 1/1s\n`)
  const mail = (where: Server) => where.reply(mailing(where.config, { ...STRANGER, user: 'bob' }))
  await mail(server)
  assert.match(await mail(server), /^450 4\.7\.1 Too many messages from 203\.0\.113\.0\/24 .* in 3960 s$/)
  const harder = new Server(`${limits}[messages per user]\nlimit = 1/1s\naction = reject\n`)
  await mail(harder)
  assert.match(await mail(harder), /^550 5\.7\.1 Too many messages from bob /)
})

test('The exception that decided is the rule of the refusal', async () => {
  const server = new Server('[messages per sender]\nlimit = 9/1m\n.example = 1/1m\n')
  const plan = mailing(server.config, { ...STRANGER, sender: mailbox('a@b.example'), believed: true })
  await server.ask(plan)
  const { refusal } = await server.ask(plan)
  assert.equal(refusal && printRule(refusal.decision.rule), 'limits.ini [messages per sender] .example')
})

test('A SIZE counts at MAIL without being charged, and one beyond the whole limit never fits', async () => {
  const server = new Server('[bytes per ip]\nlimit = 1K/1m\n')
  const mail = (size: number) => server.reply(mailing(server.config, STRANGER, size))
  assert.equal(await mail(1024), 'ok')
  assert.equal(await mail(1024), 'ok')
  assert.equal(await mail(1025), '552 5.3.4 Too many bytes from 203.0.113.9 (1K in 1m)')
  assert.equal(await server.reply(ending(server.config, STRANGER, 1000, [])), 'ok')
  assert.equal(await mail(25), '452 4.3.1 Too many bytes from 203.0.113.9 (1K in 1m), try again in 66 s')
  assert.equal(await mail(24), 'ok')
  assert.equal(await mail(0), 'ok')
})

test('Refused recipients are charged after the fact and checked before the next one', async () => {
  const server = new Server('[refused recipients per ip]\nlimit = 3/1m\n')
  const recipient = () =>
    server.reply(addressing(server.config, { ...STRANGER, recipient: mailbox('a@b.example') }))
  await server.step('charge', refusing(server.config, STRANGER, 2))
  assert.equal(await recipient(), 'ok')
  await server.step('charge', refusing(server.config, STRANGER, 1))
  assert.equal(
    await recipient(),
    '450 4.7.1 Too many refused recipients from 203.0.113.9 (3 in 1m), try again in 66 s',
  )
})

test('Concurrent connections are refused without a time, and block where the section says so', async () => {
  const server = new Server('[concurrent connections per network]\nlimit = 1\nblock = 10m\n')
  const connect = (id: string) => connecting(server.config, STRANGER, id)
  assert.equal(await server.reply(connect('1')), 'ok')
  const plan = connect('2')
  const answer = await server.step('check', plan)
  const { refusal, blocks } = judge(server.config, plan, answer)
  assert.equal(
    refusal && said(withRetryAfter(refusal)),
    '421 4.7.0 Too many concurrent connections from 203.0.113.0/24 (1 at once) (closing)',
  )
  assert.equal(blocks.length, 1)
  const { now } = server
  for (const { ms, ...block } of blocks)
    await server.store.block({ ...block, since: now, until: now + ms, by: BY }, now)
  assert.equal(
    await server.reply(connect('3')),
    '421 4.7.0 203.0.113.0/24 is blocked (too many concurrent connections), try again in 600 s (closing)',
  )
})

test('Shadow counts and tells, and lets everything through', async () => {
  const server = new Server(
    '[messages per ip]\nlimit = 1/1m\naction = shadow\nblock = 1h\n[concurrent connections per ip]\nlimit = 1\naction = shadow\n[recipients per message]\nlimit = 1\naction = shadow\n',
  )
  const shadows: string[] = []
  for (const plan of [
    mailing(server.config, STRANGER),
    mailing(server.config, STRANGER),
    connecting(server.config, STRANGER, '1'),
    connecting(server.config, STRANGER, '2'),
  ]) {
    const verdict = await server.ask(plan)
    assert.equal(verdict.refusal, undefined)
    shadows.push(...verdict.shadows.map(({ outcome, code, text }) => `${outcome} ${code} ${text}`))
  }
  assert.deepEqual(shadows, [
    'message.limited-shadow 250 Too many messages from 203.0.113.9 (1 in 1m)',
    'connection.limited-shadow 250 Too many concurrent connections from 203.0.113.9 (1 at once)',
  ])
  const recipient = anotherRecipient(server.config, 1)
  assert.deepEqual([recipient?.outcome, recipient?.code], ['recipient.limited-shadow', 250])
})

test('Recipients of a message and errors of a connection are compared, not kept', () => {
  const config = configOf(
    '[recipients per message]\nlimit = 100\n[errors per connection]\nlimit = 20\naction = reject\n',
  )
  assert.equal(anotherRecipient(config, 99), undefined)
  assert.equal(said(anotherRecipient(config, 100)!), '452 4.5.3 Too many recipients in one message (100)')
  assert.equal(tooManyErrors(config, 20), undefined)
  assert.equal(
    said(tooManyErrors(config, 21)!),
    '554 5.7.1 Too many errors on this connection (20) (closing)',
  )
  assert.equal(anotherRecipient(configOf('[main]\n'), 10_000), undefined)
})

test('A block by hand defers, and a reason and a name of strangers are cleaned', () => {
  const config = configOf('[messages per ip]\nlimit = 1/1m\nblock = 1m\naction = reject\n')
  const block = {
    scope: 'user',
    subject: `x\r\n${'y'.repeat(200)}`,
    reason: 'stolen\r\npassword',
    since: 0,
    until: 1,
    by: 'anna',
  }
  const { decision } = blocked(config, 'message', block, 1000)
  assert.equal(said(decision), `450 4.7.1 x ${'y'.repeat(98)} is blocked (stolen password)`)
  assert.equal(decision.outcome, 'message.blocked')
  const byLimit = { ...block, scope: 'ip', subject: '203.0.113.9', reason: 'too many messages' }
  assert.equal(
    said(blocked(config, 'connection', byLimit, 1).decision),
    '554 5.7.1 203.0.113.9 is blocked (too many messages) (closing)',
  )
})

const LOGINS =
  '[failed logins per ip]\nlimit = 4/10m\nblock = 1h\n[failed logins per user]\nlimit = 3/10m\nblock = 1h\n'

/** Tries to log in with a wrong password: the reply, or `wrong` where the password was checked. */
async function wrong(server: Server, user: string, ip: string): Promise<string> {
  const party = { ip, relay: false, user }
  const { refusal, known } = await server.ask(loggingIn(server.config, party), 'dry-run')
  if (refusal) return said(withRetryAfter(refusal))
  await server.step('charge', failedLogin(server.config, party, known))
  return 'wrong'
}

async function right(server: Server, user: string, ip: string): Promise<string> {
  const party = { ip, relay: false, user }
  const { refusal } = await server.ask(loggingIn(server.config, party), 'dry-run')
  if (refusal) return said(withRetryAfter(refusal))
  await server.step('charge', loggedIn(party))
  return 'right'
}

test('An old password on one phone locks out neither its office nor the user elsewhere', async () => {
  const server = new Server(LOGINS)
  assert.equal(await right(server, 'bob', '198.51.100.7'), 'right')
  for (let n = 0; n < 3; n++) assert.equal(await wrong(server, 'bob', '198.51.100.8'), 'wrong')
  const refused = '454 4.7.0 Too many failed logins for bob (3 in 10m), try again in 660 s'
  assert.equal(await wrong(server, 'bob', '198.51.100.7'), refused)
  for (let n = 0; n < 20; n++) await wrong(server, 'bob', '198.51.100.8')
  assert.equal(await right(server, 'anna', '198.51.100.8'), 'right')
  assert.equal(await right(server, 'bob', '192.0.2.1'), 'right')
})

test('Strangers who try passwords lock out themselves and the user elsewhere, not the user at his places', async () => {
  const server = new Server(LOGINS)
  await right(server, 'bob', '198.51.100.7')
  for (let n = 0; n < 3; n++) assert.equal(await wrong(server, 'bob', `203.0.${n}.1`), 'wrong')
  const refused = '454 4.7.0 Too many failed logins for bob (3 in 10m), try again in 660 s'
  assert.equal(await wrong(server, 'bob', '203.0.99.1'), refused)
  assert.equal(await right(server, 'bob', '198.51.100.7'), 'right')
  // What goes over may be counted late, by tries that ran side by side: then the user is blocked, but only elsewhere.
  await server.step(
    'charge',
    failedLogin(server.config, { ip: '203.0.99.1', relay: false, user: 'bob' }, false),
  )
  assert.equal(
    await wrong(server, 'bob', '203.0.98.1'),
    '454 4.7.0 bob is blocked (too many failed logins), try again in 3600 s',
  )
  assert.equal(await right(server, 'bob', '198.51.100.7'), 'right')
  const mail = mailing(server.config, { ip: '198.51.100.7', relay: false, user: 'bob', believed: true })
  assert.equal(await server.reply(mail), 'ok')
})

test('A block of failed logins is set on the user elsewhere, while the count is read under his name', () => {
  const plan = failedLogin(configOf(LOGINS), { ...STRANGER, user: 'bob' }, false)
  assert.deepEqual(
    plan.counts.filter(({ reason }) => reason).map(({ charge }) => [charge.scope, charge.block]),
    [
      ['ip', 3_600_000],
      ['user', undefined],
      ['user elsewhere', 3_600_000],
    ],
  )
})

test('One address that tries many users is stopped by its own count, also after a login of its own', async () => {
  const server = new Server(LOGINS)
  await right(server, 'mallory', '203.0.113.9')
  for (let n = 0; n < 4; n++) assert.equal(await wrong(server, `user${n}`, '203.0.113.9'), 'wrong')
  assert.equal(
    await wrong(server, 'user9', '203.0.113.9'),
    '454 4.7.0 Too many failed logins from 203.0.113.9 (4 in 10m), try again in 660 s',
  )
})

test('A place is forgotten after 30 days without a login', async () => {
  const server = new Server(LOGINS)
  const known = async () =>
    (await server.ask(loggingIn(server.config, { ...STRANGER, user: 'Bob' }), 'dry-run')).known
  assert.equal(await known(), false)
  await right(server, 'bob', '203.0.113.200')
  server.now += 30 * 86_400_000 - 1
  assert.equal(await known(), true)
  server.now += 4 * 86_400_000
  assert.equal(await known(), false)
})

test('Where no limit is per user, a place has the limit of an address', async () => {
  const server = new Server('[failed logins per ip]\nlimit = 2/10m\n')
  await right(server, 'bob', '198.51.100.7')
  for (let n = 0; n < 2; n++) assert.equal(await wrong(server, 'bob', '198.51.100.8'), 'wrong')
  assert.match(await wrong(server, 'bob', '198.51.100.9'), /^454 4\.7\.0 Too many failed logins for bob/)
  assert.equal(await right(server, 'anna', '198.51.100.8'), 'right')
})

test('A verdict refuses where the store did, and only there', async () => {
  const random = randomFrom(11)
  const actions = ['defer', 'shadow', 'reject']
  const replies = { refused: 0, passed: 0, shadows: 0 }
  for (let round = 0; round < 40; round++) {
    const sections = everything.split('\n[').map((section, at) => {
      const strangers = /per (?:sender|recipient)/.test(section)
      const action = pick(strangers ? actions.slice(0, 2) : actions, random)
      const block = !strangers && random() < 0.2 ? '\nblock = 10s' : ''
      const most = 1 + Math.floor(random() * 12)
      return `${at ? '[' : ''}${section.replace('= 9', `= ${most}`)}\naction = ${action}${block}`
    })
    const server = new Server(sections.filter(() => random() < 0.4).join('\n') || '[main]')
    for (let n = 0; n < 60; n++) {
      server.now += Math.floor(random() * 3000)
      const party: Party = {
        ip: pick(['203.0.113.9', '203.0.113.10', '2001:db8::1'], random),
        relay: random() < 0.1,
        believed: random() < 0.5,
        sender: mailbox(pick(['a@b.example', 'c@b.example', '@'], random)),
        recipient: mailbox(pick(['r@ours.example', 's@ours.example'], random)),
        ...(random() < 0.3 && { user: 'bob' }),
      }
      const plan = pick(
        [
          () => connecting(server.config, party, `host/1/${n}`),
          () => mailing(server.config, party, Math.floor(random() * 14)),
          () => addressing(server.config, party),
          () => ending(server.config, party, Math.floor(random() * 14), ['ours.example']),
        ],
        random,
      )()
      const answer = await server.step('check', plan)
      const { refusal, shadows } = judge(server.config, plan, answer)
      assert.equal(refusal === undefined, answer.allowed)
      if (refusal) {
        replies.refused++
        const { code, status } = refusal.decision
        assert.equal(status[0], String(code)[0])
        assert.match(said(withRetryAfter(refusal)), /^[45]\d\d [45]\.\d\.\d [^\r\n]+$/)
      } else replies.passed++
      replies.shadows += shadows.length
      for (const { code, outcome } of shadows) assert.ok(code === 250 && outcome.endsWith('-shadow'))
    }
  }
  for (const [kind, count] of Object.entries(replies)) assert.ok(count > 50, `${kind}: ${count}`)
})
