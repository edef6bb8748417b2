// What one host does at each step, with no other host to go to.
import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import { networkInterfaces, tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { parseNextHop } from '../core/next-hop/address'
import type { Route, Settings } from '../core/next-hop/route'
import { isHere } from '../core/next-hop/session'
import { arrayWork } from './support/array-work'
import { certificate, privateAuthority } from './support/certificate'
import { newClient, routeTo, text } from './support/next-hop'
import { freePort } from './support/ports'
import { fc } from './support/random'
import { type Response, type SinkOptions, type SinkSession, type Stage, startSink } from './support/sink'

interface Setting {
  sink?: SinkOptions
  route?: Partial<Route>
  settings?: Partial<Settings>
  /** The next hop's text from its address. */
  hop?: (address: string) => string
  envelope?: { mailFrom: string; size?: number; eightBit?: boolean }
}

async function setUp(
  t: TestContext,
  { sink: options, route, settings, hop = (text) => text, envelope }: Setting = {},
) {
  const sink = await startSink(options)
  const client = newClient(settings)
  t.after(() => Promise.all([client.closeAll(), sink.close()]))
  const open = () =>
    client.open(routeTo([hop(sink.address())], route), envelope ?? { mailFrom: 'a@a.example' })
  return { sink, client, open, delivery: open() }
}

const seed = Number(process.env['SEED'] ?? 5321)

/** Answers this at this stage. */
const at =
  (stage: Stage, response: Response) =>
  (now: Stage): Response =>
    now === stage ? response : undefined

test('a message is delivered, and each step gets the answer of the next hop', async (t) => {
  const { sink, delivery } = await setUp(t, {
    sink: {
      respond: (_, argument) => (argument.includes('<no@') ? '550 5.1.1 No such user' : undefined),
    },
  })
  const refused = await delivery.rcpt('no@b.example')
  assert.deepEqual(
    [refused.answered, refused.code, refused.status, refused.text],
    [true, 550, '5.1.1', 'No such user'],
  )
  assert.equal((await delivery.rcpt('b@b.example')).code, 250)
  assert.deepEqual(delivery.held, ['b@b.example'])
  const outcomes = await delivery.send(text('Subject: x\r\n\r\n.\r\n'))
  assert.deepEqual(
    outcomes.map(({ recipient, reply }) => [recipient, reply.code, reply.text]),
    [['b@b.example', 250, 'Queued']],
  )
  assert.deepEqual(
    sink.messages.map(({ from, to, data }) => [from, to, data.toString()]),
    [['a@a.example', ['b@b.example'], 'Subject: x\r\n\r\n.\r\n']],
  )
})

test('a host that cannot be used before the first recipient gives no answer, and says why', async (t) => {
  const faults: [Response, RegExp][] = [
    ['421 4.3.2 Closing', /421/],
    ['450 4.7.1 Not now', /450/],
    ['554 5.7.1 Go away', /554/],
    ['drop', /hung up|ECONNRESET/],
    ['hang', /no answer within/],
    [Buffer.from('\x16\x03\x01 garbage\r\n'), /not an SMTP reply/],
    [Buffer.from('250-half\r\n'), /no answer within/],
    [Buffer.from('354 odd\r\n'), /354/],
    ['x'.repeat(6_000), /over-long/],
  ]
  for (const stage of ['greeting', 'ehlo'] as const) {
    for (const [response, why] of faults) {
      // HELO, which follows a refused EHLO, is refused as well.
      const { delivery, sink } = await setUp(t, {
        sink: { respond: at(stage, response) },
        // Only those are waited for that do not answer.
        route: { timeout: `${why}`.includes('no answer') ? 150 : 20_000 },
      })
      const reply = await delivery.rcpt('b@b.example')
      assert.deepEqual(
        [reply.answered, reply.code, reply.status],
        [false, 451, '4.4.1'],
        `${stage} ${response}`,
      )
      assert.match(reply.text, why, `${stage} ${response}`)
      assert.deepEqual(sink.rcpts, [])
      delivery.abort()
    }
  }
})

test('a dead host gives no answer at once', async () => {
  const delivery = newClient().open(routeTo([`smtp://127.0.0.1:${await freePort()}`]), { mailFrom: '' })
  assert.match((await delivery.rcpt('b@b.example')).text, /ECONNREFUSED/)
  delivery.abort()
})

test('a refusal of MAIL or RCPT is the answer, whatever its class', async (t) => {
  for (const stage of ['mail', 'rcpt'] as const) {
    for (const response of ['450 4.2.0 Later', '552 5.3.4 Too big']) {
      for (const extensions of [[], ['PIPELINING']]) {
        const { delivery } = await setUp(t, { sink: { extensions, respond: at(stage, response) } })
        for (const recipient of ['b@b.example', 'c@b.example']) {
          const reply = await delivery.rcpt(recipient)
          assert.equal(`${reply.code} ${reply.status} ${reply.text}`, response)
          assert.equal(reply.answered, true)
        }
        assert.deepEqual(delivery.held, [])
        delivery.abort()
      }
    }
  }
})

test('a host that fails at MAIL or RCPT gives no answer', async (t) => {
  for (const stage of ['mail', 'rcpt'] as const) {
    for (const response of ['421 4.3.2 Closing', 'drop', 'hang', Buffer.from('?\r\n'), '354 what'] as const) {
      const { delivery } = await setUp(t, { sink: { respond: at(stage, response) }, route: { timeout: 150 } })
      assert.equal((await delivery.rcpt('b@b.example')).answered, false, `${stage} ${response}`)
      delivery.abort()
    }
  }
})

test('a refusal of DATA or of the message is the answer', async (t) => {
  for (const stage of ['data', 'dot'] as const) {
    for (const response of ['451 4.3.0 Later', '554 5.6.0 Spam']) {
      const { sink, delivery } = await setUp(t, { sink: { respond: at(stage, response) } })
      await delivery.rcpt('b@b.example')
      const [outcome] = await delivery.send(text('x\r\n'))
      assert.equal(`${outcome?.reply.code} ${outcome?.reply.status} ${outcome?.reply.text}`, response)
      assert.equal(sink.messages.length, 0)
    }
  }
})

test('a failure after the final dot is never retried: the message may have been delivered', async (t) => {
  for (const response of ['421 4.3.2 Closing', 'drop', 'hang', Buffer.from('?\r\n')] as const) {
    const { sink, delivery } = await setUp(t, {
      sink: { respond: at('dot', response) },
      route: { timeoutFinal: response === 'hang' ? 150 : 20_000 },
    })
    await delivery.rcpt('b@b.example')
    const [outcome] = await delivery.send(text('x\r\n'))
    if (response === '421 4.3.2 Closing') assert.equal(outcome?.reply.code, 421)
    else
      assert.deepEqual(
        [outcome?.reply.code, outcome?.reply.status, outcome?.reply.answered],
        [451, '4.4.2', false],
      )
    assert.equal(sink.rcpts.length, 1)
  }
})

test('a next hop that refuses in the middle of the message is heard', async (t) => {
  const { sink, delivery } = await setUp(t, { sink: { onData: () => '552 5.3.4 Too big' } })
  await delivery.rcpt('b@b.example')
  let closed = false
  const [outcome] = await delivery.send((body) => {
    body.once('close', () => {
      closed = true
    })
    body.write('x\r\n')
  })
  assert.equal(outcome?.reply.code, 552)
  assert.equal(closed, true, 'the source is told to stop')
  assert.equal(sink.messages.length, 0)
})

test('a message that cannot be read is nobody else’s fault and is never completed', async (t) => {
  const { sink, open } = await setUp(t, { route: { timeout: 2_000 } })
  const sources = [
    () => Promise.reject(new Error('disk')),
    (body: NodeJS.WritableStream) => {
      body.write('half a line')
      throw new Error('disk')
    },
    (body: NodeJS.WritableStream) => void body.write('and then nothing'),
  ]
  for (const source of sources) {
    const delivery = open()
    await delivery.rcpt('b@b.example')
    const [outcome] = await delivery.send(source)
    assert.deepEqual([outcome?.reply.answered, outcome?.reply.status], [false, '4.3.0'])
  }
  assert.equal(sink.messages.length, 0)
})

test('EHLO that is refused is followed by HELO, but not where TLS or a login is demanded', async (t) => {
  const respond = (stage: Stage, line: string) =>
    stage !== 'ehlo' ? undefined : line.startsWith('HELO') ? '250 old' : '502 5.5.1 What?'
  const plain = await setUp(t, { sink: { respond } })
  assert.equal((await plain.delivery.rcpt('b@b.example')).code, 250)
  assert.deepEqual(plain.sink.lines.slice(0, 2), ['EHLO me.example', 'HELO me.example'])
  const safe = await setUp(t, { sink: { respond }, route: { tls: 'encrypt' } })
  assert.equal((await safe.delivery.rcpt('b@b.example')).answered, false)
  const login = await setUp(t, { sink: { respond }, hop: (text) => text.replace('//', '//u:p@') })
  assert.equal((await login.delivery.rcpt('b@b.example')).answered, false)
})

test('STARTTLS is used as the route says', async (t) => {
  const tls = certificate()
  const other = certificate('other.example', ['127.0.0.9'])
  const cases: [Route['tls'], SinkOptions, boolean | RegExp][] = [
    ['none', { tls }, false],
    ['may', { tls }, true],
    ['may', {}, false],
    ['may', { tls, respond: at('starttls', '454 4.7.0 Not now') }, false],
    // The handshake fails: garbage where the server's hello should be.
    ['may', { tls, respond: at('starttls', Buffer.from('220 go\r\n')), extensions: [] }, false],
    ['encrypt', { tls }, true],
    ['encrypt', {}, /demands/],
    ['encrypt', { tls, respond: at('starttls', '454 4.7.0 Not now') }, /demands/],
    ['encrypt', { tls, respond: at('starttls', Buffer.from('220 go\r\n')) }, /TLS failed/],
    ['verify', { tls }, true],
    ['verify', { tls: other }, /TLS failed/],
    ['verify', {}, /demands/],
  ]
  for (const [mode, sink, expected] of cases) {
    const ca = tls.cert + other.cert
    const { delivery, sink: host } = await setUp(t, {
      sink,
      // The handshake that never comes ends by it.
      route: {
        tls: mode,
        timeout: Buffer.isBuffer(sink.respond?.('starttls', '', {} as SinkSession)) ? 2_000 : 20_000,
        ca,
      },
    })
    const reply = await delivery.rcpt('b@b.example')
    if (expected instanceof RegExp) {
      assert.match(reply.text, expected, mode)
      continue
    }
    assert.equal(reply.code, 250, `${mode}: ${reply.text}`)
    await delivery.send(text('x\r\n'))
    assert.equal(host.messages[0]?.tls, expected, mode)
  }
})

test('a certificate of an unknown authority is good enough for encrypt, not for verify', async (t) => {
  for (const implicitTls of [false, true]) {
    const sink = { tls: certificate(), implicitTls }
    const encrypt = await setUp(t, { sink, route: { tls: 'encrypt' } })
    assert.equal((await encrypt.delivery.rcpt('b@b.example')).code, 250)
    const verify = await setUp(t, { sink, route: { tls: 'verify' } })
    assert.match((await verify.delivery.rcpt('b@b.example')).text, /TLS failed/)
  }
})

test('what comes in clear behind the answer to STARTTLS is an attack', async (t) => {
  for (const injected of ['220 go\r\n250 injected\r\n', '220 go\r\n250-half']) {
    for (const tls of ['may', 'encrypt'] as const) {
      const respond = at('starttls', Buffer.from(injected))
      const { delivery, sink } = await setUp(t, { sink: { tls: certificate(), respond }, route: { tls } })
      assert.equal((await delivery.rcpt('b@b.example')).answered, false)
      assert.equal(sink.connections, 1)
    }
  }
})

test('a login is sent by the best method offered, and only where nobody listens', async (t) => {
  const login = (text: string) => text.replace('//', '//anna:s%3Acret@')
  const users = { anna: 's:cret' }
  for (const methods of [['PLAIN'], ['LOGIN'], ['CRAM-MD5', 'LOGIN', 'PLAIN']]) {
    const { sink, delivery } = await setUp(t, {
      sink: { users, methods, tls: certificate() },
      route: { tls: 'may' },
      hop: login,
    })
    await delivery.rcpt('b@b.example')
    await delivery.send(text('x\r\n'))
    assert.equal(sink.messages[0]?.user, 'anna', methods.join())
    assert.equal(sink.messages[0]?.tls, true)
  }
  for (const sink of [{}, { users, methods: ['CRAM-MD5'] }, { users: { anna: 'other' } }]) {
    const { sink: host, delivery } = await setUp(t, { sink, hop: login })
    const reply = await delivery.rcpt('b@b.example')
    assert.equal(reply.answered, false)
    assert.match(reply.text, /AUTH/)
    assert.equal(reply.text.includes('s:cret'), false)
    assert.deepEqual(host.rcpts, [])
  }
})

test('a login goes only to whoever proves its name by a good certificate, unless the operator says otherwise', async (t) => {
  const good = privateAuthority()
  const other = certificate('other.example', ['127.0.0.1'])
  const users = { anna: 's:cret' }
  // tls and tlsForLogin as readRoute makes them: verify by itself where there is a login.
  const byLogin: Partial<Route> = { tls: 'verify', tlsForLogin: true, ca: good.ca }
  const cases: [string, SinkOptions, Partial<Route>, boolean | RegExp][] = [
    ['its authority is known', { tls: good }, byLogin, true],
    ['smtps with a known authority', { tls: good, implicitTls: true }, byLogin, true],
    ['another certificate, on loopback too', { tls: other }, byLogin, /TLS failed/],
    ['the authority is not given', { tls: good }, { ...byLogin, ca: '' }, /TLS failed/],
    ['smtps with another certificate', { tls: other, implicitTls: true }, byLogin, /TLS failed/],
    [
      'STARTTLS is offered and refused',
      { tls: good, respond: at('starttls', '454 4.7.0 No') },
      byLogin,
      /demands/,
    ],
    ['no TLS is offered, on loopback', {}, byLogin, false],
    ['no TLS is offered, but verify is written', {}, { tls: 'verify', ca: good.ca }, /demands/],
    ['encrypt is written', { tls: other }, { tls: 'encrypt' }, true],
  ]
  for (const [name, options, route, expected] of cases) {
    const asked: string[] = []
    const sink = { users, ...options }
    const { sink: host, delivery } = await setUp(t, {
      sink: {
        ...sink,
        respond: (stage, argument, session) => {
          if (stage === 'auth') asked.push(argument)
          return options.respond?.(stage, argument, session)
        },
      },
      route,
      hop: (text) => text.replace('//', '//anna:s%3Acret@'),
    })
    const reply = await delivery.rcpt('b@b.example')
    if (expected instanceof RegExp) {
      assert.match(reply.text, expected, name)
      assert.deepEqual(asked, [], name)
      continue
    }
    assert.equal(reply.code, 250, `${name}: ${reply.text}`)
    const [outcome] = await delivery.send(text('x\r\n'))
    assert.equal(host.messages[0]?.tls, expected, name)
    assert.deepEqual(outcome?.peer, {
      host: '127.0.0.1',
      ip: '127.0.0.1',
      port: host.port,
      protocol: 'SMTP',
      tls: expected,
      authenticated: true,
    })
  }
})

test('an outcome says who took the message: protocol, address, TLS and login as they were', async (t) => {
  const path = join(tmpdir(), `next-hop-peer-${process.pid}.sock`)
  const lmtp = await setUp(t, { sink: { path, lmtp: true } })
  const plain = await setUp(t, {
    route: { key: 'a key with lmtp in it' },
    hop: (text) => text.replace('127.0.0.1', 'localhost'),
  })
  for (const { delivery } of [lmtp, plain]) await delivery.rcpt('b@b.example')
  const [byLmtp] = await lmtp.delivery.send(text('x\r\n'))
  const [bySmtp] = await plain.delivery.send(text('x\r\n'))
  const clear = { tls: false, authenticated: false }
  assert.deepEqual(byLmtp?.peer, { host: path, ip: path, port: 0, protocol: 'LMTP', ...clear })
  const { port } = plain.sink
  assert.deepEqual(bySmtp?.peer, { host: 'localhost', ip: '127.0.0.1', port, protocol: 'SMTP', ...clear })
})

test('a password leaves in clear for this machine only', async (t) => {
  const hop = parseNextHop('smtp://mx.example')
  for (const ip of ['127.0.0.1', '127.9.9.9', '::1', '::ffff:127.0.0.1'])
    assert.equal(isHere(hop, ip), true, ip)
  for (const ip of ['10.127.0.1', '::ffff:10.0.0.1', '2001:db8::1', ''])
    assert.equal(isHere(hop, ip), false, ip)
  assert.equal(isHere(parseNextHop('lmtp:unix:/run/lmtp')), true)
  const outside = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .find(({ family, internal }) => family === 'IPv4' && !internal)
  if (!outside) return
  const { delivery, sink } = await setUp(t, {
    sink: { host: outside.address, users: { anna: 'secret' } },
    hop: (text) => text.replace('//', '//anna:secret@'),
  })
  assert.match((await delivery.rcpt('b@b.example')).text, /not sent in clear/)
  assert.deepEqual(sink.lines, ['EHLO me.example'])
})

test('a name is sent in SNI and must be the certificate’s; an address is not sent', async (t) => {
  const tls = certificate('localhost')
  const sent: unknown[] = []
  const respond = (stage: Stage, _: string, { socket }: SinkSession) => {
    if (stage === 'mail') sent.push('servername' in socket && socket.servername)
    return undefined
  }
  for (const [name, expected] of [
    ['localhost', 'localhost'],
    ['127.0.0.1', false],
  ] as const) {
    const { delivery } = await setUp(t, {
      sink: { tls, respond },
      route: { tls: 'verify', ca: tls.cert },
      hop: (text) => text.replace('127.0.0.1', name),
    })
    assert.equal((await delivery.rcpt('b@b.example')).code, 250)
    assert.equal(sent.pop(), expected)
  }
})

test('LMTP answers for each recipient', async (t) => {
  const { sink, delivery } = await setUp(t, {
    sink: { lmtp: true, respond: at('dot', ['250 2.0.0 Kept', '452 4.2.2 Full', '550 5.7.1 No']) },
  })
  for (const recipient of ['a@b.example', 'b@b.example', 'c@b.example']) await delivery.rcpt(recipient)
  const outcomes = await delivery.send(text('x\r\n'))
  assert.deepEqual(
    outcomes.map(({ recipient, reply }) => [recipient, reply.code]),
    [
      ['a@b.example', 250],
      ['b@b.example', 452],
      ['c@b.example', 550],
    ],
  )
  assert.deepEqual(sink.messages[0]?.to, ['a@b.example'])
})

test('LMTP answers that do not come are no answers, for those recipients alone', async (t) => {
  const { delivery } = await setUp(t, {
    sink: { lmtp: true, respond: at('dot', ['250 2.0.0 Kept']) },
    route: { timeoutFinal: 2_000 },
  })
  for (const recipient of ['a@b.example', 'b@b.example']) await delivery.rcpt(recipient)
  const outcomes = await delivery.send(text('x\r\n'))
  assert.deepEqual(
    outcomes.map(({ reply }) => [reply.code, reply.status]),
    [
      [250, '2.0.0'],
      [451, '4.4.2'],
    ],
  )
})

test('a unix socket takes mail, and a login without TLS', async (t) => {
  const path = join(tmpdir(), `next-hop-${process.pid}.sock`)
  const { sink, delivery } = await setUp(t, { sink: { path, lmtp: true } })
  assert.equal((await delivery.rcpt('b@b.example')).host, path)
  await delivery.send(text('x\r\n'))
  assert.equal(sink.messages.length, 1)
})

test('MAIL carries what is needed and offered', async (t) => {
  const envelope = { mailFrom: 'a@bücher.example', size: 1234, eightBit: true, utf8: true }
  const all = await setUp(t, { envelope })
  await all.delivery.rcpt('b@bücher.example')
  assert.ok(all.sink.lines.includes('MAIL FROM:<a@xn--bcher-kva.example> SIZE=1234 BODY=8BITMIME SMTPUTF8'))
  assert.ok(all.sink.lines.includes('RCPT TO:<b@xn--bcher-kva.example>'))
  const none = await setUp(t, { envelope, sink: { extensions: [] } })
  await none.delivery.rcpt('b@b.example')
  assert.ok(none.sink.lines.includes('MAIL FROM:<a@xn--bcher-kva.example>'))
})

test('an address that needs SMTPUTF8 gets it, or 553 5.6.7 for itself alone', async (t) => {
  const able = await setUp(t)
  assert.equal((await able.delivery.rcpt('a@b.example')).code, 250)
  assert.equal((await able.delivery.rcpt('ä@b.example')).code, 250)
  await able.delivery.send(text('x\r\n'))
  assert.deepEqual(able.sink.messages[0]?.to, ['a@b.example', 'ä@b.example'])
  assert.equal(able.sink.messages[0]?.params, 'SMTPUTF8')

  const unable = await setUp(t, { sink: { extensions: [] } })
  assert.equal((await unable.delivery.rcpt('ä@b.example')).code, 553)
  assert.equal((await unable.delivery.rcpt('a@b.example')).code, 250)
  const { code, status } = await unable.delivery.rcpt('ä@b.example')
  assert.deepEqual([code, status], [553, '5.6.7'])
  await unable.delivery.send(text('x\r\n'))
  assert.deepEqual(unable.sink.messages[0]?.to, ['a@b.example'])

  const sender = await setUp(t, { sink: { extensions: [] }, envelope: { mailFrom: 'ä@a.example' } })
  assert.equal((await sender.delivery.rcpt('a@b.example')).code, 553)
})

test('nothing in an address can end a line', async (t) => {
  const { sink, delivery } = await setUp(t)
  const address = 'a@b.example>\r\nRCPT TO:<v@v.example'
  assert.equal((await delivery.rcpt(address)).code, 553)
  assert.equal((await delivery.rcpt('b@b.example')).code, 250)
  assert.equal((await delivery.rcpt(address)).code, 553)
  assert.deepEqual(
    (await delivery.hold(['b@b.example', address])).map(({ reply }) => reply.code),
    [250, 553],
  )
  await delivery.hold([address])
  assert.equal((await delivery.rcpt('c@b.example')).code, 250)
  await delivery.send(text('x\r\n'))
  assert.deepEqual(sink.messages[0]?.to, ['c@b.example'])
  assert.equal(sink.rcpts.includes('v@v.example'), false)
})

test('a listener of our own is refused as a mail loop', async (t) => {
  const asked: string[] = []
  const ownListener = (ip: string, port: number) => asked.push(`${ip}:${port}`) > 0
  const { sink, delivery } = await setUp(t, { settings: { ownListener } })
  assert.match((await delivery.rcpt('b@b.example')).text, /mail would loop/)
  assert.deepEqual(asked, [`127.0.0.1:${sink.port}`])
  assert.deepEqual(sink.lines, [])
})

test('hosts may be looked up; a look-up that fails or hangs is no answer', async (t) => {
  const { sink, delivery } = await setUp(t)
  const client = newClient({ budget: 2_000 })
  t.after(() => client.closeAll())
  const hops = routeTo([sink.address()]).hops
  const open = (hops: Route['hops']) =>
    client.open({ ...routeTo([]), hops }, { mailFrom: '' }).rcpt('b@b.example')
  assert.equal((await open(() => Promise.resolve(typeof hops === 'function' ? [] : hops))).code, 250)
  assert.match((await open(() => Promise.reject(new Error('SERVFAIL')))).text, /SERVFAIL/)
  assert.match((await open(() => new Promise(() => {}))).text, /no answer in time/)
  assert.match((await open([])).text, /no host/)
  delivery.abort()
})

test('whatever a server sends, nothing throws or hangs', async () => {
  const line = fc.oneof(
    fc.constantFrom(
      '220 hi\r\n',
      '250 ok\r\n',
      '250-a\r\n250 STARTTLS\r\n',
      '354 go\r\n',
      '550 no\r\n',
      '421 x\r\n',
      '250-\r\n',
    ),
    fc.uint8Array({ maxLength: 30 }).map((bytes) => Buffer.from(bytes).toString('latin1')),
    fc.string({ maxLength: 20 }).map((text) => `${text}\r\n`),
  )
  await fc.assert(
    fc.asyncProperty(
      fc.array(line, { maxLength: 8 }),
      fc.boolean(),
      fc.constantFrom('none', 'may'),
      async (lines, ends, tls) => {
        const server = createServer((socket) => {
          socket.on('error', () => {})
          const speak = () => {
            const next = lines[spoken++]
            if (next !== undefined) socket.write(next, 'latin1')
            else if (ends) socket.end()
          }
          let spoken = 0
          socket.on('data', speak)
          speak()
        })
        await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
        const address = server.address()
        const port = address && typeof address === 'object' ? address.port : 0
        const client = newClient({ budget: 60, connectTimeout: 60 })
        const route = routeTo([`smtp://127.0.0.1:${port}`], {
          tls: tls === 'may' ? 'may' : 'none',
          timeout: 20,
          timeoutFinal: 20,
        })
        const delivery = client.open(route, { mailFrom: '' })
        const reply = await delivery.rcpt('b@b.example')
        assert.ok(reply.code >= 200 && reply.code < 600)
        for (const { reply: held } of await delivery.send(text('x\r\n')))
          assert.ok(held.code >= 200 && held.code < 600)
        await client.closeAll()
        server.close()
      },
    ),
    { numRuns: 60, seed },
  )
})

test('four times the recipients are four times the work, asked one by one, sent again at once, and handed over', async (t) => {
  for (const lmtp of [false, true]) {
    const path = join(tmpdir(), `next-hop-session-${process.pid}`)
    const { sink, open } = await setUp(t, { sink: lmtp ? { lmtp, path } : {} })
    const transaction = async (count: number) => {
      const delivery = open()
      const recipients = Array.from({ length: count }, (_, index) => `b${index}@b.example`)
      for (const recipient of recipients) await delivery.rcpt(recipient)
      const wanted = recipients.slice(1).reverse()
      await delivery.hold(wanted)
      // The connection goes to another client: the envelope is sent again, all of it at once.
      delivery.giveWay()
      await delivery.hold([...wanted, ...wanted])
      assert.equal((await delivery.send(text('x\r\n'))).length, count - 1)
      assert.equal(sink.messages.at(-1)?.to.length, count - 1)
    }
    const works: number[] = []
    for (const count of [200, 800]) works.push(await arrayWork(() => transaction(count)))
    assert.ok(works[1]! < 6 * works[0]!, `${lmtp ? 'LMTP' : 'SMTP'}: ${works}`)
  }
})
