// Recipient verification at a real Haraka: what clients are told at RCPT, what the next hops are asked, with several
// workers too.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import { type Haraka, startHaraka } from './support/haraka'
import { dovecot, type MailServer, missing, postfix } from './support/mail-servers'
import { until } from './support/patience'
import { freePort } from './support/ports'
import { RedisServer } from './support/redis'
import { type Response, type Sink, type SinkSession, type Stage, startSink } from './support/sink'
import { type Reply, SmtpClient } from './support/smtp-client'

const RELAY = '127.30.0.1'

const isMadeUp = (address: string) => address.startsWith('recipient-check-')
const local = (argument: string): string => /^TO:<"?([^@">]*)/i.exec(argument)?.[1]?.toLowerCase() ?? ''

interface RcptOptions {
  /** MAIL FROM. */
  from?: string
  /** The client's address. */
  ip?: string
}

/** The answers to these recipients, in one transaction that is then given up. */
async function rcpt(
  port: number,
  to: string[],
  { from = 'a@sender.test', ip }: RcptOptions = {},
): Promise<Reply[]> {
  const client = await SmtpClient.connect({ port, ...(ip !== undefined && { from: ip }) })
  await client.ehlo()
  await client.command(`MAIL FROM:<${from}>`)
  const replies: Reply[] = []
  for (const address of to) replies.push(await client.command(`RCPT TO:<${address}>`))
  await client.quit()
  return replies
}

const ask = async (port: number, to: string, options: RcptOptions = {}): Promise<string> => {
  const [reply] = await rcpt(port, [to], options)
  return `${reply?.code} ${reply?.text.replace(/ \(id .*/, '')}`
}

describe('a Haraka before next hops of several kinds', () => {
  const sinks = new Map<string, Sink>()
  let mode = 'fine'
  const seen = new Set<string>()
  const kinds: Record<string, (stage: Stage, argument: string, session: SinkSession) => Response> = {
    // Knows anna, bert and the postmaster.
    users: (stage, argument) =>
      stage === 'rcpt' && !['anna', 'bert', 'carl'].includes(local(argument))
        ? '550 5.1.1 No such user here'
        : undefined,
    defers: (stage) => (stage === 'rcpt' ? '452 4.2.2 Mailbox full' : undefined),
    policy: (stage) => (stage === 'rcpt' ? '554 5.7.1 Not from you' : undefined),
    'no-null': (stage, argument) =>
      stage === 'mail' && argument.startsWith('FROM:<>') ? '550 5.1.0 No null sender' : undefined,
    auth: (stage) => (stage === 'mail' ? '530 5.7.0 Log in first' : undefined),
    greylist: (stage, argument) => {
      if (stage !== 'rcpt' || seen.has(argument)) return undefined
      seen.add(argument)
      return '451 4.7.1 Greylisted'
    },
    all: () => undefined,
    forward: (stage, argument) =>
      stage === 'rcpt' && (local(argument) !== 'anna' || mode === 'gone')
        ? '550 5.1.1 No such user here'
        : undefined,
    'forward-slow': () => undefined,
  }
  let haraka: Haraka
  const sink = (name: string): Sink => sinks.get(name)!
  const asked = (name: string) => sink(name).rcpts.filter((address) => !isMadeUp(address))
  const domainsIni = () =>
    [
      '[main]\nanti_spoof = off\nanti_spoof_from = off\nquestions = 20/1m\n',
      ...[...sinks].map(
        ([name, { port }]) =>
          `[${name}.test]\nnext_hop = smtp://127.0.0.1:${port}\n${name.startsWith('forward') ? '' : 'delivery = queue\n'}`,
      ),
      `[listed.test]\nnext_hop = smtp://127.0.0.1:${sink('users').port}\ndelivery = queue\nrecipients[] = anna@listed.test\n`,
      `[trusting.test]\nnext_hop = smtp://127.0.0.1:${sink('users').port}\ndelivery = queue\nverify = none\n`,
      `[dead.test]\nnext_hop = smtp://127.0.0.1:${dead}\ndelivery = queue\n`,
    ].join('')
  let dead: number
  before(async () => {
    for (const [name, respond] of Object.entries(kinds)) sinks.set(name, await startSink({ respond }))
    dead = await freePort()
    haraka = await startHaraka({
      plugins: ['relay-guard/acl', 'relay-guard/domains', 'relay-guard/limits'],
      files: {
        'relay-guard/acl.ini': `[relay]\n${RELAY}\n`,
        'relay-guard/domains.ini': domainsIni(),
        'relay-guard/limits.ini': '[refused recipients per ip]\nlimit = 5/1h\n127.0.0.1 = unlimited\n',
      },
    })
  })
  after(async () => {
    await haraka?.stop()
    for (const each of sinks.values()) await each.close()
  })

  const answers: [string, string, number][] = [
    // Who, the answer, how often the next hop is asked for two clients.
    ['anna@users.test', '250 2.1.5 <anna@users.test> is ours', 1],
    ['nobody@users.test', '550 5.1.1 No such user here', 1],
    ['POSTMASTER@users.test', '250 2.1.5 <POSTMASTER@users.test> is ours', 0],
    ['anna@listed.test', '250 2.1.5 <anna@listed.test> is ours', 0],
    ['nobody@listed.test', '550 5.1.1 <nobody@listed.test> is not known here', 0],
    ['nobody@trusting.test', '250 2.1.5 <nobody@trusting.test> is ours', 0],
    ['full@defers.test', '452 4.2.2 Mailbox full', 2],
    ['anna@policy.test', '554 5.7.1 Not from you', 2],
    ['anna@no-null.test', '451 4.3.5 The next hop takes no questions about recipients, try again later', 0],
    ['anna@auth.test', '451 4.3.5 The next hop takes no questions about recipients, try again later', 0],
    ['somebody@all.test', '250 2.1.5 <somebody@all.test> is ours', 1],
    ['anna@dead.test', '451 4.4.1 The next hop does not answer, try again later', 0],
    ['anna@forward.test', '250 2.1.5 Recipient ok', 2],
  ]
  for (const [address, answer, questions] of answers) {
    test(`${address} is answered ${answer}`, async () => {
      const name = address.slice(address.indexOf('@') + 1).replace('.test', '')
      const of = () => (sinks.has(name) ? asked(name).length : 0)
      const already = of()
      for (let n = 0; n < 2; n++)
        assert.equal((await ask(haraka.port, address)).replace(/^(\d+) /, '$1 '), answer)
      if (sinks.has(name) && !['no-null', 'auth'].includes(name)) assert.equal(of() - already, questions)
    })
  }

  test('a greylisting next hop defers the first one only', async () => {
    assert.equal(await ask(haraka.port, 'anna@greylist.test'), '451 4.7.1 Greylisted')
    assert.equal(await ask(haraka.port, 'anna@greylist.test'), '250 2.1.5 <anna@greylist.test> is ours')
  })

  test('the refusal names its rule, and is counted for who guesses', async () => {
    const ip = '127.40.0.1'
    const replies = await rcpt(
      haraka.port,
      Array.from({ length: 7 }, () => 'nobody@users.test'),
      { ip },
    )
    assert.deepEqual(
      replies.map(({ code }) => code),
      [550, 550, 550, 550, 550, 450, 450],
    )
    const id = /\(id (\S+)\)/.exec(replies[0]?.text ?? '')?.[1] ?? 'none'
    const line = await haraka.waitForLog(
      new RegExp(`id=${id.replace('.', '\\.')} .*outcome=recipient\\.unknown`),
    )
    assert.match(line, /rule="domains\.ini \[users\.test\] verify"/)
    assert.match(line, /to=nobody@users\.test/)
  })

  test('nothing reaches a next hop but questions, and mail for known recipients', async () => {
    const client = await SmtpClient.connect({ port: haraka.port })
    await client.ehlo()
    const { rcpt: replies, dot } = await client.deliver({
      from: 'a@sender.test',
      to: ['anna@users.test', 'nobody@users.test', 'bert@users.test'],
    })
    assert.deepEqual(
      replies.map(({ code }) => code),
      [250, 550, 250],
    )
    assert.equal(dot?.code, 250)
    await client.quit()
    await until(() => sink('users').messages.flatMap(({ to }) => to).length === 2)
    assert.deepEqual(
      sink('users')
        .messages.flatMap(({ to }) => to)
        .sort(),
      ['anna@users.test', 'bert@users.test'],
    )
    await haraka.queueEmpty()
  })

  describe('for a client that may relay', () => {
    test('only an unknown mailbox is refused; what cannot be told is queued', async () => {
      const relayed = (to: string) => ask(haraka.port, to, { ip: RELAY })
      assert.equal(await relayed('nobody@users.test'), '550 5.1.1 No such user here')
      assert.match(await relayed('anna@users.test'), /^250 /)
      for (const name of ['defers', 'policy', 'auth', 'dead'])
        assert.match(await relayed(`anna@${name}.test`), /^250 /)
      const before = sink('forward').rcpts.length
      assert.match(await relayed('whoever@forward.test'), /^250 /)
      assert.equal(sink('forward').rcpts.length, before, 'under forward nobody is asked')
    })
  })

  describe('under forward', () => {
    test('an unknown mailbox is cached from an answer to MAIL FROM:<> only, and then refused without asking', async () => {
      const count = () => asked('forward').filter((address) => address.startsWith('ghost')).length
      const other = '550 5.1.1 No such user here'
      for (let n = 0; n < 2; n++) assert.equal(await ask(haraka.port, 'ghost@forward.test'), other)
      assert.equal(count(), 2)
      assert.equal(await ask(haraka.port, 'ghost@forward.test', { from: '' }), other)
      assert.equal(count(), 3)
      for (const from of ['a@sender.test', ''])
        assert.equal(await ask(haraka.port, 'ghost@forward.test', { from }), other)
      assert.equal(await ask(haraka.port, 'Ghost@FORWARD.test', { ip: RELAY }), other)
      assert.equal(count(), 3)
    })

    test('a known one is asked again each time, and not accepted from the cache', async () => {
      assert.match(await ask(haraka.port, 'anna@forward.test', { from: '' }), /^250 /)
      mode = 'gone'
      assert.match(await ask(haraka.port, 'anna@forward.test'), /^550 /)
      mode = 'fine'
      assert.match(await ask(haraka.port, 'anna@forward.test'), /^250 /)
    })

    test('a dictionary attack costs the next hop no more than questions says; mail for others passes', async () => {
      const taken = sink('forward').rcpts.length
      const replies = await rcpt(
        haraka.port,
        Array.from({ length: 60 }, (_, n) => `x${n}@forward.test`),
      )
      const reached = sink('forward').rcpts.length - taken
      assert.ok(reached <= 20, `${reached}`)
      const refused = replies.filter(({ code }) => code === 550).length
      assert.equal(refused, reached)
      const later = replies.filter(({ code, status }) => code === 451 && status === '4.7.1')
      assert.equal(later.length, 60 - refused)
      await haraka.waitForLog(/outcome=recipient\.not-asked rule="domains\.ini \[main\] questions"/)
      assert.match(await ask(haraka.port, 'anna@forward.test'), /^250 /)
    })

    test('200 recipients at once that the next hop takes are all taken', async () => {
      const all = await Promise.all(
        Array.from({ length: 200 }, (_, n) => ask(haraka.port, `user${n}@forward-slow.test`)),
      )
      assert.deepEqual([...new Set(all)], ['250 2.1.5 Recipient ok'])
    })
  })

  test('answers of another next hop count for nothing after a reload', async () => {
    assert.match(await ask(haraka.port, 'ghost@forward.test'), /^550 /)
    const text = domainsIni().replace(
      `[forward.test]\nnext_hop = smtp://127.0.0.1:${sink('forward').port}`,
      `[forward.test]\nnext_hop = smtp://127.0.0.1:${sink('all').port}`,
    )
    haraka.write('relay-guard/domains.ini', text)
    await haraka.waitForLog(/domains\.ini was read again and is in force/)
    assert.equal(await ask(haraka.port, 'ghost@forward.test'), '250 2.1.5 Recipient ok')
  })

  test('nothing failed', () => assert.deepEqual(haraka.failures(), []))
})

/** The worker that holds the other end of a connection to a sink, or 0. */
function ownerOf(port: number, pids: number[]): number {
  const hex = port.toString(16).toUpperCase().padStart(4, '0')
  const line = readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .find((each) => each.trim().split(/\s+/)[1]?.endsWith(`:${hex}`))
  const inode = line?.trim().split(/\s+/)[9]
  const holds = (pid: number) =>
    readdirSync(`/proc/${pid}/fd`).some((fd) => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${fd}`) === `socket:[${inode}]`
      } catch {
        return false
      }
    })
  return pids.find(holds) ?? 0
}

for (const isShared of [true, false]) {
  describe(`four workers ${isShared ? 'with' : 'without'} Redis`, () => {
    let redis: RedisServer | undefined
    let sink: Sink
    let haraka: Haraka
    let held: ((value: Response) => void)[] = []
    const slow: SinkSession[] = []
    before(async () => {
      if (isShared) redis = await RedisServer.start()
      sink = await startSink({
        respond: (stage, argument, session) => {
          if (stage !== 'rcpt') return undefined
          if (local(argument) === 'slow') {
            slow.push(session)
            return new Promise((resolve) => held.push(resolve))
          }
          return /^(anna|known\d+|late)$/.test(local(argument)) ? undefined : '550 5.1.1 No such user here'
        },
      })
      haraka = await startHaraka({
        plugins: ['relay-guard/domains'],
        nodes: 4,
        files: {
          'relay-guard/domains.ini': `[main]\nquestions = 1000/1s\n[box.test]\nnext_hop = smtp://127.0.0.1:${sink.port}\ndelivery = queue\n`,
          ...(redis && {
            'relay-guard/redis.ini': `[redis]\nhost = 127.0.0.1\nport = ${redis.port}\ntimeout = 5s\n`,
          }),
        },
      })
    })
    after(async () => {
      await haraka?.stop()
      await sink?.close()
      await redis?.stop()
    })

    const verify = (to: string) => ask(haraka.port, `${to}@box.test`)
    const questions = (to: string) => sink.rcpts.filter((address) => address === `${to}@box.test`).length

    test('ask once for each address that 200 clients at once ask for', async () => {
      const names = ['anna', 'nobody', 'known1', 'known2', 'ghost']
      const all = await Promise.all(Array.from({ length: 200 }, (_, n) => verify(names[n % names.length]!)))
      for (const [n, answer] of all.entries())
        assert.match(
          answer,
          /anna|known/.test(names[n % names.length]!) ? /^250 / : /^550 5\.1\.1 No such user here/,
        )
      // Later, on other connections, so by all workers.
      await Promise.all(Array.from({ length: 100 }, (_, n) => verify(names[n % names.length]!)))
      assert.deepEqual(names.map(questions), [1, 1, 1, 1, 1])
      assert.equal(sink.rcpts.filter(isMadeUp).length, 1, 'one made-up recipient')
    })

    test('a worker that is killed while it asks leaves the question to the next one', async () => {
      const waiting = Array.from({ length: 12 }, () => verify('slow'))
      await until(() => slow.length === 1)
      const owner = ownerOf(slow[0]?.socket.remotePort ?? 0, haraka.workers())
      assert.notEqual(owner, 0)
      process.kill(owner, 'SIGKILL')
      await until(() => slow.length === 2)
      for (const answer of held) answer('550 5.1.1 No such user here')
      held = []
      const answers = await Promise.all(waiting)
      // Those of the worker that is dead have no answer.
      for (const answer of answers) assert.match(answer, /^550 5\.1\.1 No such user here|^0 |^undefined /)
      assert.ok(answers.some((answer) => answer.startsWith('550')))
      assert.equal(questions('slow'), 2)
    })

    test('with the next hop down, and Redis too, known ones are accepted and others deferred', async () => {
      const late = async (answer: RegExp) => {
        for (let n = 0; n < 12; n++) assert.match(await verify('anna'), answer)
      }
      await late(/^250 /)
      await sink.close()
      await late(/^250 /)
      if (redis) {
        await redis.kill()
        // What a worker has not heard of is known to Redis only: told to come again, never refused.
        for (let n = 0; n < 12; n++) assert.match(await verify('anna'), /^250 |^451 4\.4\.1 /)
      }
      for (let n = 0; n < 8; n++) assert.match(await verify(`new${n}`), /^451 4\.4\.1 /)
      assert.deepEqual(haraka.failures(), [])
    })
  })
}

const noServers = missing('postfix') || missing('dovecot')

describe('Postfix and Dovecot’s LMTP', { skip: noServers && `${noServers}: .ci/run installs it` }, () => {
  let sink: Sink
  let servers: MailServer[]
  let haraka: Haraka
  before(async () => {
    sink = await startSink()
    const settings = {
      smtpd_error_sleep_time: '1s',
      smtpd_soft_error_limit: '10',
      smtpd_hard_error_limit: '20',
      smtpd_junk_command_limit: '10',
    }
    servers = [
      postfix({
        port: await freePort(),
        users: ['anna'],
        sink: sink.port,
        size: 20_000,
        connections: 50,
        settings,
      }),
      dovecot({ port: await freePort(), users: { 'anna@lmtp.test': undefined } }),
    ]
    for (const server of servers) await server.start()
    const [smtp, lmtp] = servers
    haraka = await startHaraka({
      plugins: ['relay-guard/domains'],
      files: {
        'relay-guard/domains.ini': `[main]\nquestions = 1000/1s
[box.test]\nnext_hop = smtp://127.0.0.1:${smtp!.port}\ndelivery = queue
[lmtp.test]\nnext_hop = lmtp://127.0.0.1:${lmtp!.port}\ndelivery = queue\n`,
      },
    })
  })
  after(async () => {
    await haraka?.stop()
    for (const server of servers ?? []) await server.remove()
    await sink?.close()
  })

  for (const domain of ['box.test', 'lmtp.test']) {
    test(`${domain}: 100 unknown recipients are refused in its words, and the known one is accepted`, async () => {
      const unknown = await rcpt(
        haraka.port,
        Array.from({ length: 100 }, (_, n) => `x${n}@${domain}`),
      )
      const refused = unknown.filter(({ code, status }) => code === 550 && status === '5.1.1')
      assert.equal(refused.length, 100, `${unknown.find(({ code }) => code !== 550)?.text}`)
      assert.match(unknown[7]?.text ?? '', new RegExp(`<x7@${domain}>`))
      assert.match(await ask(haraka.port, `anna@${domain}`), /^250 /)
      await servers[domain === 'box.test' ? 0 : 1]!.stop()
      assert.match(await ask(haraka.port, `anna@${domain}`), /^250 /, 'known, with the next hop down')
      assert.match(await ask(haraka.port, `x3@${domain}`), /^550 5\.1\.1/)
      assert.match(await ask(haraka.port, `bert@${domain}`), /^451 4\.4\.1/)
      await servers[domain === 'box.test' ? 0 : 1]!.start()
    })
  }

  test('no session was cut off for its errors', () => {
    assert.doesNotMatch(servers[0]!.log(), /too many errors/i)
    assert.deepEqual(haraka.failures(), [])
  })
})
