// Several hosts: which is tried when, what a dead one costs, how long it backs off, and what the log says of it.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { type TestContext, test } from 'node:test'
import { type NextHop, parseNextHop } from '../core/next-hop/address'
import { Hosts } from '../core/next-hop/hosts'
import { withDefaults } from '../core/next-hop/route'
import { certificate } from './support/certificate'
import { newClient, routeTo, text } from './support/next-hop'
import { until } from './support/patience'
import { freePort } from './support/ports'
import { type Sink, type SinkOptions, type SinkSession, type Stage, startSink } from './support/sink'

async function start(t: TestContext, options: SinkOptions = {}): Promise<Sink> {
  const sink = await startSink(options)
  t.after(() => sink.close())
  return sink
}

function client(t: TestContext, settings: Parameters<typeof newClient>[0] = {}) {
  const made = newClient(settings)
  t.after(() => made.closeAll())
  return made
}

const sender = { mailFrom: 'a@a.example' }
const routeHops = (texts: [string, string]): [NextHop, NextHop] => [
  parseNextHop(texts[0]),
  parseNextHop(texts[1]),
]
const dead = async () => `smtp://127.0.0.1:${await freePort()}`

/** A port that is bound and whose queue of connections is full: what connects there hears nothing, as behind a firewall. */
async function blackHole(t: TestContext): Promise<string> {
  const script =
    'import socket,sys\n' +
    's=socket.socket();s.bind(("127.0.0.1",0));s.listen(0)\n' +
    'f=[]\n' +
    'for i in range(4):\n' +
    ' c=socket.socket();c.setblocking(False);c.connect_ex(s.getsockname());f.append(c)\n' +
    'print(s.getsockname()[1],flush=True)\n' +
    'sys.stdin.read()\n'
  const holder = spawn('python3', ['-c', script], { stdio: ['pipe', 'pipe', 'inherit'] })
  t.after(() => holder.kill())
  const [port] = await once(holder.stdout, 'data')
  return `smtp://127.0.0.1:${String(port).trim()}`
}

test('hosts that cannot be used are passed over, each for its reason', async (t) => {
  const at = (stage: Stage, response: string) => (now: Stage) => (now === stage ? response : undefined)
  const bad: SinkOptions[] = [
    { respond: at('greeting', '554 5.7.1 No') },
    { respond: at('greeting', '421 4.3.2 Busy') },
    { respond: at('greeting', 'hang') },
    { respond: at('ehlo', '450 4.7.1 Later') },
    { respond: at('ehlo', 'drop') },
    { respond: at('greeting', 'hello') },
    { respond: at('mail', 'drop') },
    { respond: at('rcpt', 'hang') },
    { respond: at('rcpt', '421 4.7.0 Closing') },
    { tls: certificate('other.example', ['127.0.0.9']) },
    {},
  ]
  const tls = certificate()
  const stages: Stage[] = ['greeting', 'rcpt']
  const session = {} as SinkSession
  for (const options of bad) {
    const [first, second] = [await start(t, options), await start(t, { tls })]
    // Only a host that hangs is waited for, and the second one may take its time on a busy machine.
    const hangs = options.respond && stages.some((stage) => options.respond?.(stage, '', session) === 'hang')
    const timeout = hangs ? 1_500 : 20_000
    const route = routeTo([first.address(), second.address()], { timeout, tls: 'verify', ca: tls.cert })
    // Those that fail later must get as far as that.
    if (options.respond) Object.assign(options, { tls })
    const delivery = client(t).open(route, sender)
    const reply = await delivery.rcpt('b@b.example')
    assert.equal(reply.host, `127.0.0.1:${second.port}`, reply.text)
    await delivery.send(text('x\r\n'))
    assert.deepEqual([first.messages.length, second.messages.length], [0, 1])
  }
})

test('a recipient that a living host refuses is not asked of the next one', async (t) => {
  const first = await start(t, {
    respond: (stage) => (stage === 'rcpt' ? '450 4.2.0 Greylisted' : undefined),
  })
  const second = await start(t)
  const delivery = client(t).open(routeTo([first.address(), second.address()]), sender)
  assert.equal((await delivery.rcpt('b@b.example')).code, 450)
  assert.equal(second.connections, 0)
  delivery.abort()
})

test('a host that is down is passed over at once, a black hole when its patience is over', async (t) => {
  const [gone, second] = routeHops([await dead(), (await start(t)).address()])
  const [hole] = routeHops([await blackHole(t), 'smtp://b.example'])
  const { signal } = new AbortController()
  // No timer ends here unless it is told to.
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const first = await new Hosts(withDefaults({ name: '' })).connect([gone, second], 5_000, signal, () => {})
  assert.equal(first?.hop, second)
  first?.socket.destroy()

  const hosts = new Hosts(withDefaults({ name: '' }))
  let connected: NextHop | undefined
  const race = hosts
    .connect([hole, second], 5_000, signal, () => {})
    .then((winner) => {
      connected = winner?.hop
      winner?.socket.destroy()
    })
  t.mock.timers.tick(hosts.patience(hole) - 1)
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
  assert.equal(connected, undefined)
  t.mock.timers.tick(1)
  await race
  assert.equal(connected, second)
})

test('a black hole backs off once it is known for one, though its transaction is over', async (t) => {
  const [hole, second] = routeHops([await blackHole(t), (await start(t)).address()])
  const hosts = new Hosts(withDefaults({ name: '' }))
  const transaction = new AbortController()
  const connected = await hosts.connect([hole, second], 2_000, transaction.signal, () => {})
  assert.equal(connected?.hop, second)
  connected?.socket.destroy()
  transaction.abort()
  await until(() => hosts.order([hole, second])[0] === second)
})

test('a host gets 80 ms to connect before the next one is tried, or four times what it took last', async (t) => {
  const [slow] = routeHops([(await start(t)).address(), 'smtp://b.example'])
  let time = 0
  // By this clock a connection takes 50 ms.
  const hosts = new Hosts(withDefaults({ name: '', clock: () => (time += 50) }))
  assert.equal(hosts.patience(slow), 80)
  const connected = await hosts.connect([slow], 1_000, new AbortController().signal, () => {})
  connected?.socket.destroy()
  assert.equal(hosts.patience(slow), 200)
})

test('hosts that back off come last, in their order', () => {
  const hosts = new Hosts(withDefaults({ name: '' }))
  const [a, b] = routeHops(['smtp://a.example', 'smtp://b.example'])
  assert.deepEqual(hosts.order([a, b]), [a, b])
  hosts.failed(a, 'x')
  assert.deepEqual(hosts.order([a, b]), [b, a])
  hosts.failed(b, 'x')
  assert.deepEqual(hosts.order([a, b]), [a, b])
  hosts.worked(b)
  assert.deepEqual(hosts.order([a, b]), [b, a])
})

test('a host backs off for 30 s at first, twice as long each time up to 5 min, and success ends it', () => {
  let time = 0
  const hosts = new Hosts(withDefaults({ name: '', clock: () => time }))
  const [a, b] = routeHops(['smtp://a.example', 'smtp://b.example'])
  const backsOffFor = (seconds: number) => {
    hosts.failed(a, 'x')
    time += seconds * 1_000 - 1
    assert.equal(hosts.order([a, b])[0], b, `${seconds} s`)
    time += 1
    assert.equal(hosts.order([a, b])[0], a, `${seconds} s`)
  }
  for (const seconds of [30, 60, 120, 240, 300, 300]) backsOffFor(seconds)
  hosts.worked(a)
  backsOffFor(30)
})

test('a host backs off for one route: another one with the same host still tries it', async (t) => {
  let greets = false
  const first = await start(t, {
    respond: (stage) => (stage === 'greeting' && !greets ? '421 4.3.2 Busy' : undefined),
  })
  const second = await start(t)
  const connected = client(t, { maxIdle: 0 })
  const ask = async (key: string) => {
    const delivery = connected.open(routeTo([first.address(), second.address()], { key }), sender)
    const { host } = await delivery.rcpt('b@b.example')
    delivery.abort()
    return host
  }
  assert.equal(await ask('one'), `127.0.0.1:${second.port}`)
  greets = true
  assert.equal(await ask('one'), `127.0.0.1:${second.port}`)
  assert.equal(await ask('two'), `127.0.0.1:${first.port}`)
})

test('a host that fails at MAIL backs off as well, and one that works again does not', async (t) => {
  let fails = true
  const first = await start(t, { respond: (stage) => (stage === 'mail' && fails ? 'drop' : undefined) })
  const second = await start(t)
  const connected = client(t, { maxIdle: 0 })
  const ask = async (hosts: Sink[]) => {
    const delivery = connected.open(routeTo(hosts.map((host) => host.address())), sender)
    const { host } = await delivery.rcpt('b@b.example')
    delivery.abort()
    return Number(host.split(':')[1])
  }
  assert.equal(await ask([first, second]), second.port)
  fails = false
  assert.equal(await ask([first, second]), second.port)
  assert.equal(await ask([first]), first.port)
  assert.equal(await ask([first, second]), first.port)
})

test('all hosts together end within the budget, and one that hangs leaves time for the others', async (t) => {
  const hang = await start(t, { respond: () => 'hang' })
  const good = await start(t)
  const connected = client(t, { budget: 3_000 })
  const some = connected.open(routeTo([hang.address(), good.address()]), sender)
  assert.equal((await some.rcpt('b@b.example')).code, 250)
  const none = connected.open(routeTo([hang.address()], { key: 'none' }), sender)
  const reply = await none.rcpt('b@b.example')
  assert.equal(reply.answered, false)
  assert.match(reply.text, /no answer within (?:\d{3}|[12]\d{3}|3000) ms/)
  for (const delivery of [some, none]) delivery.abort()
})

test('a host that hangs up with recipients accepted is replaced, and all are sent again', async (t) => {
  const first = await start(t, {
    respond: (_, argument) => (argument.includes('<c@') ? 'drop' : undefined),
  })
  const second = await start(t, {
    respond: (_, argument) => (argument.includes('<a@b.') ? '550 5.1.1 No' : undefined),
  })
  const delivery = client(t).open(routeTo([first.address(), second.address()]), sender)
  assert.equal((await delivery.rcpt('a@b.example')).code, 250)
  assert.equal((await delivery.rcpt('b@b.example')).code, 250)
  const third = await delivery.rcpt('c@b.example')
  assert.equal(third.host, `127.0.0.1:${second.port}`)
  assert.deepEqual(second.rcpts, ['a@b.example', 'b@b.example', 'c@b.example'])
  const outcomes = await delivery.hold(['a@b.example', 'b@b.example', 'c@b.example'])
  assert.deepEqual(
    outcomes.map(({ reply }) => reply.code),
    [550, 250, 250],
    'who is refused now is told',
  )
  assert.deepEqual(delivery.held, ['b@b.example', 'c@b.example'])
  await delivery.send(text('x\r\n'))
  assert.deepEqual(second.messages[0]?.to, ['b@b.example', 'c@b.example'])
})

test('a message that fails before its final dot goes to the next host, whole', async (t) => {
  const breaks: SinkOptions[] = [
    { onData: () => 'drop' },
    { onData: () => '421 4.3.2 Closing' },
    { respond: (stage) => (stage === 'data' ? 'drop' : undefined) },
    { respond: (stage) => (stage === 'data' ? 'hang' : undefined) },
  ]
  for (const options of breaks) {
    const [first, second] = [await start(t, options), await start(t)]
    const timeout = options === breaks.at(-1) ? 1_500 : 20_000
    const delivery = client(t).open(routeTo([first.address(), second.address()], { timeout }), sender)
    await delivery.rcpt('b@b.example')
    await delivery.rcpt('c@b.example')
    const message = Buffer.alloc(1_400_000, 'line of text\r\n')
    let tries = 0
    const [outcome] = await delivery.send((body) => {
      // The first time only half of it: no dot is on its way when the host breaks.
      if (tries++ || !options.onData) body.end(message)
      else body.write(message.subarray(message.length / 2))
    })
    assert.equal(outcome?.reply.host, `127.0.0.1:${second.port}`, outcome?.reply.text)
    assert.deepEqual(second.messages[0]?.to, ['b@b.example', 'c@b.example'])
    assert.equal(second.messages[0]?.data.length, message.length)
    assert.equal(first.messages.length, 0)
  }
})

test('a retry that not every recipient would survive is left to the client', async (t) => {
  const first = await start(t, { onData: () => 'drop' })
  const second = await start(t, {
    respond: (_, argument) => (argument.includes('<c@') ? '550 5.1.1 No' : undefined),
  })
  const delivery = client(t).open(routeTo([first.address(), second.address()]), sender)
  await delivery.rcpt('b@b.example')
  await delivery.rcpt('c@b.example')
  let tries = 0
  const outcomes = await delivery.send((body) => {
    // The first time only half of it: no dot is on its way when the host breaks.
    if (tries++) body.end('x\r\n')
    else body.write('half')
  })
  assert.deepEqual(
    outcomes.map(({ reply }) => reply.code),
    [451, 451],
  )
  await until(() => second.open === 0 || second.lines.includes('RSET'))
  assert.equal(second.messages.length, 0)
})

test('a host that always hangs up at DATA is not asked for ever', async (t) => {
  const only = await start(t, { respond: (stage) => (stage === 'data' ? 'drop' : undefined) })
  const delivery = client(t).open(routeTo([only.address()]), sender)
  await delivery.rcpt('b@b.example')
  const [outcome] = await delivery.send(text('x\r\n'))
  assert.deepEqual([outcome?.reply.answered, only.connections], [false, 2])
})

test('a host that hangs at a later recipient leaves time for the next one', async (t) => {
  const first = await start(t, { respond: (_, argument) => (argument.includes('<c@') ? 'hang' : undefined) })
  const second = await start(t)
  const delivery = client(t, { budget: 3_000 }).open(routeTo([first.address(), second.address()]), sender)
  await delivery.rcpt('b@b.example')
  assert.equal((await delivery.rcpt('c@b.example')).host, `127.0.0.1:${second.port}`)
  assert.deepEqual(second.rcpts, ['b@b.example', 'c@b.example'])
  delivery.abort()
})

test('a dead host alone ends the sending, too', async (t) => {
  const only = await startSink()
  const delivery = client(t).open(routeTo([only.address()]), sender)
  await delivery.rcpt('b@b.example')
  await only.close()
  const [outcome] = await delivery.send(text('x\r\n'))
  assert.deepEqual([outcome?.reply.answered, outcome?.reply.code], [false, 451])
})

test('a host that goes and comes back is worth one line each, whichever routes notice', async (t) => {
  const lines: string[] = []
  const connected = client(t, { log: (line, change) => lines.push(`${change}: ${line}`), maxIdle: 0 })
  const first = await startSink()
  const { port } = first
  const second = await start(t)
  const ask = async (key: string) => {
    const hops = [`smtp://127.0.0.1:${port}`, second.address()]
    const delivery = connected.open(routeTo(hops, { key }), sender)
    const reply = await delivery.rcpt('b@b.example')
    delivery.abort()
    return reply.host
  }
  assert.equal(await ask('one'), `127.0.0.1:${port}`)
  assert.deepEqual(lines, [])
  await first.close()
  for (const key of ['one', 'one', 'two', 'three']) assert.equal(await ask(key), `127.0.0.1:${second.port}`)
  assert.deepEqual(lines, [`down: next hop 127.0.0.1:${port}: down (ECONNREFUSED), backs off 30 s`])
  const again = await startSink({ port })
  t.after(() => again.close())
  for (const key of ['four', 'four', 'five']) assert.equal(await ask(key), `127.0.0.1:${port}`)
  assert.deepEqual(lines.slice(1), [`back: next hop 127.0.0.1:${port}: back`])
})

test('what a dead host said is cleaned before it is logged', async (t) => {
  const lines: string[] = []
  const connected = client(t, { log: (line) => lines.push(line) })
  const rude = await start(t, {
    respond: (stage) => (stage === 'greeting' ? '554 \x1b[31mno\u202eway' : undefined),
  })
  await connected.open(routeTo([rude.address()]), sender).rcpt('b@b.example')
  assert.deepEqual(lines, [
    `next hop 127.0.0.1:${rude.port}: down (greeted with 554  [31mno way), backs off 30 s`,
  ])
})
