// Connections over time: kept, given back, replaced, bounded; and what is held on them.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Route, Settings } from '../core/next-hop/route'
import { newClient, routeTo, text } from './support/next-hop'
import { until } from './support/patience'
import { type SinkOptions, startSink } from './support/sink'

const sender = { mailFrom: 'a@a.example' }

async function setUp(
  t: TestContext,
  settings: Partial<Settings> = {},
  options: SinkOptions = {},
  route: Partial<Route> = {},
) {
  const sink = await startSink(options)
  const client = newClient(settings)
  t.after(() => Promise.all([client.closeAll(), sink.close()]))
  const open = (key = 'route') => client.open(routeTo([sink.address()], { key, ...route }), sender)
  const deliver = async (key?: string) => {
    const delivery = open(key)
    await delivery.rcpt('b@b.example')
    return (await delivery.send(text('x\r\n')))[0]?.reply
  }
  return { sink, client, open, deliver }
}

test('a connection serves one transaction after the other, of its own route only', async (t) => {
  const { sink, deliver } = await setUp(t)
  for (let i = 0; i < 5; i++) assert.equal((await deliver())?.code, 250)
  assert.equal(sink.connections, 1)
  await deliver('another')
  assert.equal(sink.connections, 2)
  assert.equal(sink.messages.length, 6)
})

test('a connection is left after so many transactions, and after so long without one, with QUIT', async (t) => {
  const worn = await setUp(t, { maxTransactions: 2 })
  for (let i = 0; i < 4; i++) await worn.deliver()
  assert.equal(worn.sink.connections, 2)
  await until(() => worn.sink.open === 0)
  assert.equal(worn.sink.lines.filter((line) => line === 'QUIT').length, 2)

  const unused = await setUp(t, { idleTime: 30 })
  await unused.deliver()
  await until(() => unused.sink.open === 0)
  assert.equal(unused.sink.lines.at(-1), 'QUIT')
})

test('a connection is left after eight refusals: servers that count them slow down, then hang up', async (t) => {
  const refused = new Map<number, number>()
  const { sink, open, deliver } = await setUp(
    t,
    {},
    {
      respond: (stage, argument, { number }) => {
        if (stage !== 'rcpt' || argument.startsWith('TO:<b@')) return undefined
        refused.set(number, (refused.get(number) ?? 0) + 1)
        return '550 5.1.1 No such user'
      },
    },
    { connections: 1 },
  )
  for (let i = 0; i < 20; i++) {
    const delivery = open()
    for (let j = 0; j < 2; j++) assert.equal((await delivery.rcpt(`x${j}@b.example`)).code, 550)
    delivery.abort()
  }
  assert.deepEqual([...refused.values()], [8, 8, 8, 8, 8])
  assert.equal((await deliver())?.code, 250)
  assert.equal(sink.connections, 6)
})

test('no more connections are kept than allowed', async (t) => {
  const { sink, open } = await setUp(t, { maxIdle: 2 })
  const deliveries = Array.from({ length: 5 }, () => open())
  await Promise.all(deliveries.map((delivery) => delivery.rcpt('b@b.example')))
  assert.equal(sink.open, 5)
  for (const delivery of deliveries) delivery.abort()
  await until(() => sink.open === 2)
})

test('a kept connection that is dead is replaced without harm to the host', async (t) => {
  const { sink, client } = await setUp(t)
  // Dies at its second MAIL: closing without a word would be noticed before.
  let used = 0
  const first = await startSink({
    respond: (stage) => (stage === 'mail' && ++used === 2 ? 'drop' : undefined),
  })
  t.after(() => first.close())
  const deliver = async () => {
    const delivery = client.open(routeTo([first.address(), sink.address()]), sender)
    const reply = await delivery.rcpt('b@b.example')
    await delivery.send(text('x\r\n'))
    return reply.host
  }
  for (let i = 0; i < 3; i++) assert.equal(await deliver(), `127.0.0.1:${first.port}`)
  assert.deepEqual([first.connections, first.messages.length, sink.connections], [2, 3, 0])
})

test('a kept connection that hangs leaves time for a new one', async (t) => {
  const respond: SinkOptions['respond'] = (stage, _, { number }) =>
    stage === 'mail' && number === 1 && sink.messages.length ? 'hang' : undefined
  const { sink, deliver } = await setUp(t, { budget: 4_000 }, { respond })
  await deliver()
  assert.equal((await deliver())?.code, 250)
  assert.equal(sink.connections, 2)
})

test('kept connections that the host closes are forgotten', async (t) => {
  const { sink, deliver, client } = await setUp(t)
  await deliver()
  const port = sink.port
  await sink.close()
  const again = await startSink({ port })
  t.after(() => again.close())
  assert.equal((await deliver())?.code, 250)
  assert.equal(again.messages.length, 1)
  await client.closeAll()
})

test('a slow client gives its connection back, and gets another when it goes on', async (t) => {
  const { sink, open } = await setUp(t, { idle: 40, idleTime: 20 })
  const delivery = open()
  await delivery.rcpt('a@b.example')
  await until(() => sink.open === 0)
  assert.deepEqual(sink.lines.slice(-2), ['RSET', 'QUIT'])
  assert.equal((await delivery.rcpt('b@b.example')).code, 250)
  await until(() => sink.open === 0)
  assert.deepEqual(
    (await delivery.hold(['a@b.example', 'b@b.example'])).map(({ reply }) => reply.code),
    [250, 250],
  )
  await until(() => sink.open === 0)
  await delivery.send(text('x\r\n'))
  assert.deepEqual(sink.messages[0]?.to, ['a@b.example', 'b@b.example'])
  assert.equal(sink.connections, 4)
})

test('who finds no place waits for one, and goes without an answer in the end', async (t) => {
  const { sink, open } = await setUp(t, { budget: 2_000, grace: 60_000 }, {}, { connections: 2 })
  const [first, second, third, fourth] = [open(), open(), open(), open()]
  await first.rcpt('b@b.example')
  await second.rcpt('b@b.example')
  const none = await third.rcpt('b@b.example')
  assert.deepEqual([none.answered, none.code], [false, 451])
  assert.match(none.text, /all connections of this worker are in use \(connections = 2\)/)
  const waiting = fourth.rcpt('b@b.example')
  first.abort()
  assert.equal((await waiting).code, 250)
  second.abort()
  assert.equal((await third.rcpt('b@b.example')).code, 250)
  assert.equal(sink.connections, 2)
  for (const delivery of [third, fourth]) delivery.abort()
})

test('kept connections make room for new ones of other hosts', async (t) => {
  const { sink, client, open } = await setUp(t, { idleTime: 60_000 }, {}, { connections: 1 })
  const other = await startSink()
  t.after(() => other.close())
  const delivery = open()
  await delivery.rcpt('b@b.example')
  delivery.abort()
  const second = client.open(routeTo([other.address()], { connections: 1 }), sender)
  assert.equal((await second.rcpt('b@b.example')).code, 250)
  await until(() => sink.open === 0)
  second.abort()
})

test('what the next hop holds is made equal to what was accepted', async (t) => {
  for (const extensions of [[], ['PIPELINING']]) {
    const { sink, open } = await setUp(t, {}, { extensions })
    const delivery = open()
    for (const name of ['a', 'b', 'c']) await delivery.rcpt(`${name}@b.example`)
    await delivery.hold(['a@b.example', 'b@b.example', 'c@b.example'])
    assert.equal(sink.lines.includes('RSET'), false, 'nothing is sent when nothing differs')
    const outcomes = await delivery.hold(['c@b.example', 'a@b.example', 'a@b.example'])
    assert.deepEqual(
      outcomes.map(({ recipient, reply }) => [recipient, reply.code]),
      [
        ['c@b.example', 250],
        ['a@b.example', 250],
      ],
    )
    await delivery.send(text('x\r\n'))
    assert.deepEqual(sink.messages[0]?.to, ['c@b.example', 'a@b.example'])
    assert.equal(sink.connections, 1)
  }
})

test('an envelope is sent in one go where PIPELINING is offered, step by step where not', async (t) => {
  for (const extensions of [[], ['PIPELINING']]) {
    const pending: boolean[] = []
    const respond: SinkOptions['respond'] = (stage, _, session) => {
      if (stage === 'mail' || stage === 'rcpt') pending.push(session.pending > 0)
      return undefined
    }
    const { sink, open } = await setUp(t, {}, { extensions, respond })
    const delivery = open()
    const outcomes = await delivery.hold(['a@b.example', 'b@b.example', 'c@b.example'])
    assert.equal(outcomes.filter(({ reply }) => reply.code === 250).length, 3)
    assert.deepEqual(pending, extensions.length ? [true, true, true, false] : [false, false, false, false])
    assert.equal(sink.rcpts.length, 3)
    delivery.abort()
  }
})

test('the same recipient twice is one recipient', async (t) => {
  const { sink, open } = await setUp(t)
  const delivery = open()
  await Promise.all([
    delivery.rcpt('b@b.example'),
    delivery.rcpt('b@b.example'),
    delivery.rcpt('c@b.example'),
  ])
  assert.deepEqual(sink.rcpts, ['b@b.example', 'c@b.example'])
  assert.equal((await delivery.send(text('x\r\n'))).length, 2)
})

test('nothing held means nothing sent', async (t) => {
  const { sink, open } = await setUp(t)
  const delivery = open()
  await delivery.rcpt('b@b.example')
  assert.deepEqual(await delivery.hold([]), [])
  assert.deepEqual(await delivery.send(text('x\r\n')), [])
  await until(() => sink.lines.at(-1) === 'RSET')
  assert.equal(sink.messages.length, 0)
})

test('a transaction that is given up leaves no message, whatever it was at', async (t) => {
  const stages = ['greeting', 'ehlo', 'mail', 'rcpt', 'data', 'dot'] as const
  for (const hangsAt of stages) {
    const { sink, open } = await setUp(
      t,
      { budget: 60_000 },
      { respond: (stage) => (stage === hangsAt ? 'hang' : undefined) },
      { timeout: 60_000, timeoutFinal: 60_000 },
    )
    const delivery = open()
    const reached =
      hangsAt === 'data' || hangsAt === 'dot' ? 'DATA' : hangsAt === 'greeting' ? '' : hangsAt.toUpperCase()
    const rcpt = delivery.rcpt('b@b.example')
    const sent =
      hangsAt === 'data' || hangsAt === 'dot' ? rcpt.then(() => delivery.send(text('x\r\n'))) : rcpt
    await until(
      () => sink.connections > 0 && (!reached || sink.lines.some((line) => line.startsWith(reached))),
    )
    delivery.abort()
    await until(() => sink.open === 0)
    await sent
    assert.equal((await delivery.rcpt('c@b.example')).answered, false)
    assert.equal(sink.messages.length, 0)
  }
})

test('a half message is never completed', async (t) => {
  let heard = false
  const onData: SinkOptions['onData'] = () => {
    heard = true
    return undefined
  }
  const { sink, open } = await setUp(t, {}, { onData })
  const delivery = open()
  await delivery.rcpt('b@b.example')
  const sent = delivery.send((body) => {
    body.write('Subject: half\r\n\r\nhalf\r\n')
    void until(() => heard).then(() => delivery.abort())
  })
  const [outcome] = await sent
  assert.equal(outcome?.reply.answered, false)
  await until(() => sink.open === 0)
  assert.equal(sink.messages.length, 0)
})

test('an envelope that is given up is taken back, and its connection used again', async (t) => {
  let answered = false
  const respond: SinkOptions['respond'] = (stage) => {
    if (stage === 'rset') setImmediate(() => setImmediate(() => (answered = true)))
    return undefined
  }
  const { sink, open, deliver } = await setUp(t, {}, { respond })
  const delivery = open()
  await delivery.rcpt('b@b.example')
  delivery.abort()
  await until(() => answered)
  await deliver()
  assert.deepEqual([sink.connections, sink.messages.length], [1, 1])
})

test('closing sends QUIT on what is kept, and on what is in use when it comes back', async (t) => {
  const { sink, client, open, deliver } = await setUp(t)
  await deliver()
  const delivery = open('other')
  await delivery.rcpt('b@b.example')
  await client.closeAll()
  assert.equal(sink.lines.filter((line) => line === 'QUIT').length, 1)
  await delivery.send(text('x\r\n'))
  await until(() => sink.open === 0)
  assert.deepEqual([sink.messages.length, sink.lines.filter((line) => line === 'QUIT').length], [2, 2])
})
