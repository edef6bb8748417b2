// Connections that clients share: nothing of one client stays for the next, and nobody keeps them from the others.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Delivery } from '../core/next-hop/delivery'
import type { Envelope, Route, Settings } from '../core/next-hop/route'
import { newClient, routeTo, text } from './support/next-hop'
import { until } from './support/patience'
import { type SinkOptions, type SinkSession, startSink } from './support/sink'

const sender = { mailFrom: 'a@a.example' }

async function setUp(t: TestContext, { options = {}, route = {}, settings = {} }: SetUp = {}) {
  const sink = await startSink(options)
  const client = newClient(settings)
  t.after(() => Promise.all([client.closeAll(), sink.close()]))
  const open = (envelope: Envelope = sender, budget = 20_000) =>
    client.open(routeTo([sink.address()], route), envelope, { budget })
  const deliver = async (envelope?: Envelope, recipient = 'b@b.example') => {
    const delivery = open(envelope)
    const rcpt = await delivery.rcpt(recipient)
    const [outcome] = await delivery.send(text('x\r\n'))
    return outcome?.reply ?? rcpt
  }
  return { sink, client, open, deliver }
}

interface SetUp {
  options?: SinkOptions
  route?: Partial<Route>
  settings?: Partial<Settings>
}

/** Runs `work` for each number below `count`, so many at a time. */
async function many(count: number, atOnce: number, work: (number: number) => Promise<unknown>) {
  let next = 0
  const worker = async () => {
    while (next < count) await work(next++)
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
}

test('what a server keeps of a refused MAIL until RSET meets nobody else', async (t) => {
  for (const extensions of [['SIZE'], ['SIZE', 'PIPELINING']]) {
    // As Postfix does with SIZE.
    const kept = new WeakMap<SinkSession, number>()
    const options: SinkOptions = {
      extensions,
      respond: (stage, argument, session) => {
        if (stage === 'rset') kept.delete(session)
        if (stage !== 'mail') return undefined
        const size = Math.max(kept.get(session) ?? 0, Number(/SIZE=(\d+)/.exec(argument)?.[1] ?? 0))
        kept.set(session, size)
        return size > 2_000_000 ? '552 5.3.4 Message size exceeds fixed limit' : undefined
      },
    }
    const { sink, deliver } = await setUp(t, { options })
    assert.equal((await deliver({ ...sender, size: 3_000_000 })).code, 552)
    for (let i = 0; i < 3; i++) assert.equal((await deliver({ ...sender, size: 1_000 })).code, 250)
    assert.equal((await deliver({ ...sender, size: 3_000_000 })).code, 552)
    assert.equal((await deliver()).code, 250)
    assert.equal(sink.messages.length, 4)
    assert.equal(sink.connections, 1)
  }
})

test('of 220 messages all are taken by a host whose sessions take only so many each', async (t) => {
  for (const stage of ['mail', 'data'] as const) {
    for (const response of [
      '452 4.4.5 Too many messages in this session',
      '451 4.7.0 Enough',
      '421 4.3.2 Bye',
    ]) {
      const carried = new WeakMap<SinkSession, number>()
      const options: SinkOptions = {
        respond: (now, _, session) => {
          const count = carried.get(session) ?? 0
          if (now === 'dot') carried.set(session, count + 1)
          return now === stage && count >= 3 ? response : undefined
        },
      }
      const { sink, deliver } = await setUp(t, { options, route: { connections: 5 } })
      let accepted = 0
      await many(220, 10, async () => {
        if ((await deliver()).code === 250) accepted++
      })
      assert.deepEqual([accepted, sink.messages.length], [220, 220], `${stage} ${response}`)
    }
  }
})

test('a 4xx to MAIL or DATA on a new session is the answer, and is asked for once', async (t) => {
  for (const stage of ['mail', 'data'] as const) {
    const options: SinkOptions = {
      respond: (now, _, session) =>
        now === stage && (session.number > 1 || sink.messages.length > 0) ? '450 4.7.1 Not now' : undefined,
    }
    const { sink, deliver } = await setUp(t, { options })
    assert.equal((await deliver()).code, 250)
    assert.equal((await deliver()).code, 450)
    assert.equal(sink.connections, 2, 'the one that carried mail, and a new one')
    assert.equal(sink.lines.filter((line) => line.toUpperCase().startsWith(stage.toUpperCase())).length, 3)
  }
})

test('LMTP answers go to the recipients that this session accepted, in its order', async (t) => {
  let bDeferred = 1
  let dropped = false
  const refused = new Set(['b@b.example'])
  const options: SinkOptions = {
    lmtp: true,
    respond: (stage, argument, { to }) => {
      if (stage === 'rcpt' && argument.includes('<c@') && !dropped) {
        dropped = true
        return 'drop'
      }
      if (stage === 'rcpt' && dropped && argument.includes('<b@') && bDeferred-- > 0) return '451 4.2.0 Once'
      if (stage !== 'dot') return undefined
      return to.map((recipient) =>
        refused.has(recipient) ? `550 5.2.1 ${recipient} is off` : `250 2.1.5 ${recipient}`,
      )
    },
  }
  const { sink, open } = await setUp(t, { options })
  const delivery = open()
  const all = ['a@b.example', 'b@b.example', 'c@b.example']
  for (const recipient of all) assert.equal((await delivery.rcpt(recipient)).code, 250)
  for (const { reply } of await delivery.hold(all)) assert.equal(reply.code, 250)
  const outcomes = await delivery.send(text('x\r\n'))
  assert.deepEqual(
    outcomes.map(({ recipient, reply }) => [recipient, reply.code, reply.text.split(' ')[0]]).sort(),
    [
      ['a@b.example', 250, 'a@b.example'],
      ['b@b.example', 550, 'b@b.example'],
      ['c@b.example', 250, 'c@b.example'],
    ],
  )
  assert.deepEqual(sink.messages[0]?.to, ['a@b.example', 'c@b.example'])
})

test('an answer that one LMTP recipient gets before the end of the message is not the others’', async (t) => {
  const { sink, open } = await setUp(t, { options: { lmtp: true, onData: () => '550 5.7.1 Not for a' } })
  const delivery = open()
  for (const recipient of ['a@b.example', 'b@b.example']) await delivery.rcpt(recipient)
  const outcomes = await delivery.send((body) => void body.write('x\r\n'))
  assert.deepEqual(
    outcomes.map(({ reply }) => reply.answered),
    [false, false],
  )
  assert.equal(sink.messages.length, 0)
})

test('one reply too many is nobody’s answer', async (t) => {
  for (const stage of ['rcpt', 'dot'] as const) {
    // It comes while the connection is idle, or when the next client has it already. Later than the answer to RSET it
    // could not be told from an answer.
    for (const late of [false, true]) {
      const options: SinkOptions = {
        respond: (now, _, { socket, number }) => {
          if (number > 1) return undefined
          const tooMany = () => socket.write('550 5.7.1 This is about somebody else\r\n')
          if (late && now === 'rset') tooMany()
          if (!late && now === stage) setImmediate(tooMany)
          return undefined
        },
      }
      const { open, deliver } = await setUp(t, { options })
      const first = open()
      await first.rcpt('a@b.example')
      if (stage === 'dot') await first.send(text('x\r\n'))
      else first.abort()
      assert.equal((await deliver()).code, 250, `${stage} ${late}`)
    }
  }
})

test('a reply that comes after its time reaches nobody', async (t) => {
  const options: SinkOptions = {
    respond: (stage, argument) =>
      stage === 'rcpt' && argument.includes('<slow@')
        ? new Promise((resolve) => setTimeout(() => resolve('550 5.1.1 slow is unknown'), 300))
        : undefined,
  }
  const { sink, client, deliver } = await setUp(t, { options })
  const hasty = client.open(routeTo([sink.address()], { timeout: 100 }), sender)
  assert.equal((await hasty.rcpt('slow@b.example')).answered, false)
  for (let i = 0; i < 3; i++) assert.equal((await deliver()).code, 250)
  await until(() => sink.open <= 1)
  assert.equal((await deliver()).code, 250)
})

test('a hundred clients that idle with a recipient keep nobody out, and lose nothing', async (t) => {
  let most = 0
  const options: SinkOptions = {
    respond: () => {
      most = Math.max(most, sink.open)
      return undefined
    },
  }
  const { sink, open } = await setUp(t, { options, settings: { idle: 60_000 } })
  const idlers: Delivery[] = []
  for (let number = 0; number < 100; number++) {
    const idler = open({ mailFrom: `${number}@a.example` })
    idlers.push(idler)
    assert.equal((await idler.rcpt('b@b.example')).code, 250)
  }
  for (let round = 0; round < 3; round++) {
    // Each sends one recipient more, as those do who want to stay; a decent client comes between.
    await Promise.all(idlers.slice(0, 30).map((idler) => idler.rcpt(`c${round}@b.example`)))
    const decent = open(sender, 20_000)
    assert.equal((await decent.rcpt('b@b.example')).code, 250)
    assert.equal((await decent.send(text('decent\r\n')))[0]?.reply.code, 250)
  }
  const sent = await Promise.all(idlers.map((idler) => idler.send(text('x\r\n'))))
  assert.ok(sent.flat().every(({ reply }) => reply.code === 250))
  const mine = sink.messages.filter(({ from }) => from !== sender.mailFrom)
  assert.equal(new Set(mine.map(({ from }) => from)).size, 100)
  assert.equal(mine.length, 100)
  for (const { from, to } of mine) assert.equal(to.length, Number.parseInt(from, 10) < 30 ? 4 : 1)
  assert.ok(most <= 20, `${most} connections at once`)
})

test('who idles longest gives way first, and nobody before the grace is over', async (t) => {
  let time = 0
  const { sink, open } = await setUp(t, {
    route: { connections: 2 },
    settings: { grace: 1_000, clock: () => time, idleTime: 60_000 },
  })
  const [first, second, third] = [
    open({ mailFrom: '1@a' }),
    open({ mailFrom: '2@a' }),
    open({ mailFrom: '3@a' }),
  ]
  await first.rcpt('b@b.example')
  time = 500
  await second.rcpt('b@b.example')
  time = 900
  const early = open({ mailFrom: '4@a' }, 50)
  assert.equal((await early.rcpt('b@b.example')).congested, 'all in use')
  time = 1_000
  assert.equal((await third.rcpt('b@b.example')).code, 250)
  const mails = () => sink.lines.filter((line) => line.startsWith('MAIL'))
  await second.rcpt('c@b.example')
  assert.equal(mails().length, 3, 'the second one kept its connection')
  time = 5_000
  await first.rcpt('c@b.example')
  assert.equal(mails().length, 4, 'the envelope of the first one is sent again')
  assert.deepEqual(
    (await first.send(text('x\r\n'))).map(({ recipient }) => recipient),
    ['b@b.example', 'c@b.example'],
  )
})

test('a host that takes no more connections is waited for, and its spare gets nothing', async (t) => {
  const options: SinkOptions = {
    respond: (stage) =>
      stage === 'greeting' && sink.open > 4 ? '421 4.7.0 Too many connections' : undefined,
  }
  const { sink, client } = await setUp(t, { options })
  const spare = await startSink()
  t.after(() => spare.close())
  let accepted = 0
  await many(200, 60, async () => {
    const delivery = client.open(routeTo([sink.address(), spare.address()], { connections: 20 }), sender)
    await delivery.rcpt('b@b.example')
    if ((await delivery.send(text('x\r\n')))[0]?.reply.code === 250) accepted++
  })
  assert.deepEqual([accepted, sink.messages.length, spare.connections], [200, 200, 0])
  const turnedAway = sink.connections - 4
  await many(200, 60, async () => {
    const delivery = client.open(routeTo([sink.address(), spare.address()], { connections: 20 }), sender)
    await delivery.rcpt('b@b.example')
    await delivery.send(text('x\r\n'))
  })
  assert.ok(sink.connections - 4 <= turnedAway + 4, 'what it allows is remembered')
  assert.equal(spare.connections, 0)
})

test('where others hold all connections that a host takes, it is asked again until one is free', async (t) => {
  const options: SinkOptions = {
    respond: (stage) =>
      stage === 'greeting' && sink.open > 2 ? '421 4.7.0 Too many connections' : undefined,
  }
  const { sink, deliver } = await setUp(t, { options })
  const otherWorker = newClient()
  t.after(() => otherWorker.closeAll())
  const held = [1, 2].map(() => otherWorker.open(routeTo([sink.address()]), sender))
  for (const delivery of held) await delivery.rcpt('b@b.example')
  const waiting = deliver()
  await until(() => sink.connections > 3)
  for (const delivery of held) delivery.abort()
  await otherWorker.closeAll()
  assert.equal((await waiting).code, 250)
})

test('a host that takes no connection in all the time is reported full, not dead', async (t) => {
  const respond = () => '421 4.7.0 Error: too many connections from 127.0.0.1'
  const { sink, open } = await setUp(t, { options: { respond } })
  const reply = await open(sender, 2_000).rcpt('b@b.example')
  assert.deepEqual([reply.answered, reply.code, reply.status], [false, 451, '4.4.5'])
  assert.equal(reply.congested, 'no more taken')
  assert.match(reply.text, /too many connections from/)
  assert.ok(sink.connections > 1)
})

test('a client goes before the queue, which has more time', async (t) => {
  const { open } = await setUp(t, { route: { connections: 1 }, settings: { grace: 60_000 } })
  const holder = open()
  await holder.rcpt('b@b.example')
  const order: string[] = []
  const queued = open(sender, 300_000)
  const fromQueue = queued.rcpt('q@b.example').then(() => {
    order.push('queue')
    queued.abort()
  })
  const client = open()
  const waiting = client.rcpt('c@b.example').then(() => {
    order.push('client')
    client.abort()
  })
  // Both are in the line by then.
  await new Promise((resolve) => setImmediate(resolve))
  holder.abort()
  await Promise.all([fromQueue, waiting])
  assert.deepEqual(order, ['client', 'queue'])
})

test('too many recipients are to come again by themselves, a full mailbox is not', async (t) => {
  const cases: [string, number, string | undefined][] = [
    ['552 5.5.3 Too many recipients', 452, '4.5.3'],
    ['552 Too many recipients', 452, '4.5.3'],
    ['552', 452, '4.5.3'],
    ['552 5.2.2 Mailbox full', 552, '5.2.2'],
    ['552 5.3.4 Too big', 552, '5.3.4'],
    ['452 4.5.3 Too many', 452, '4.5.3'],
    ['550 5.5.3 Odd', 550, '5.5.3'],
  ]
  for (const extensions of [[], ['PIPELINING']]) {
    for (const [response, code, status] of cases) {
      const options: SinkOptions = {
        extensions,
        respond: (stage, argument) => (stage === 'rcpt' && argument.includes('<x@') ? response : undefined),
      }
      const { open } = await setUp(t, { options })
      const alone = await open().rcpt('x@b.example')
      assert.deepEqual([alone.code, alone.status], [code, status], response)
      const delivery = open()
      await delivery.rcpt('b@b.example')
      const later = await delivery.rcpt('x@b.example')
      assert.deepEqual([later.code, later.status], [code, status], response)
      assert.deepEqual(delivery.held, ['b@b.example'])
    }
  }
})

test('neither yes nor no to the message is a 451 with a reason, and the session is left', async (t) => {
  for (const response of ['350 What?', '334 VXNl', '354 Go on', '399']) {
    const options: SinkOptions = { respond: (stage) => (stage === 'dot' ? response : undefined) }
    const { sink, deliver } = await setUp(t, { options })
    const reply = await deliver()
    assert.deepEqual([reply.code, reply.status], [451, '4.3.0'], response)
    assert.match(reply.text, new RegExp(`answered the message with ${response.slice(0, 3)}`))
    await until(() => sink.open === 0)
  }
})

test('the whole hand-over has one clock, however many recipients LMTP answers for', async (t) => {
  const recipients = Array.from({ length: 40 }, (_, number) => `${number}@b.example`)
  let answered = 0
  const options: SinkOptions = {
    lmtp: true,
    respond: (stage, _, { socket }) => {
      if (stage !== 'dot') return undefined
      const answer = setInterval(() => {
        if (socket.destroyed || answered === recipients.length) return clearInterval(answer)
        answered++
        socket.write('250 2.1.5 ok\r\n')
      }, 40)
      return Buffer.from('')
    },
  }
  const { open } = await setUp(t, {
    options,
    route: { timeoutFinal: 5_000 },
    settings: { handOver: 300 },
  })
  const delivery = open()
  await delivery.hold(recipients)
  const outcomes = await delivery.send(text('x\r\n'))
  assert.equal(outcomes.length, 40)
  const yes = outcomes.filter(({ reply }) => reply.code === 250).length
  const unsure = outcomes.filter(({ reply }) => reply.status === '4.4.2').length
  assert.equal(yes + unsure, 40)
  assert.ok(unsure > 0 && answered < 40, `${answered} answered`)
  assert.deepEqual(
    outcomes.map(({ recipient }) => recipient),
    recipients,
  )
})
