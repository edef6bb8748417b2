import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import { Body } from '../core/next-hop/body'
import { newClient, routeTo, text } from './support/next-hop'
import { fc } from './support/random'
import { startSink } from './support/sink'

/** What leaves for these pieces. */
async function written(pieces: Buffer[]): Promise<string> {
  const out: Buffer[] = []
  const body = new Body((data, done) => {
    out.push(data)
    setImmediate(done)
  })
  for (const piece of pieces) body.write(piece)
  await new Promise<void>((resolve) => body.end(resolve))
  return Buffer.concat(out).toString('latin1')
}

const seed = Number(process.env['SEED'] ?? 5321)

test('dots at line starts are doubled, and the final dot stands on a line of its own', async () => {
  const cases: [string, string][] = [
    ['', '.\r\n'],
    ['a\r\n', 'a\r\n.\r\n'],
    ['a', 'a\r\n.\r\n'],
    ['.', '..\r\n.\r\n'],
    ['.\r\n', '..\r\n.\r\n'],
    ['..a\r\n.b\r\nc.\r\n', '...a\r\n..b\r\nc.\r\n.\r\n'],
    ['a\n.\nb', 'a\r\n..\r\nb\r\n.\r\n'],
    ['a\n.\r\nMAIL', 'a\r\n..\r\nMAIL\r\n.\r\n'],
    ['a\r.\r\n', 'a\r\n..\r\n.\r\n'],
    ['a\r', 'a\r\n.\r\n'],
    ['\r\r\n.', '\r\n\r\n..\r\n.\r\n'],
    ['\xff\x00\x80', '\xff\x00\x80\r\n.\r\n'],
  ]
  for (const [message, wire] of cases) assert.equal(await written([Buffer.from(message, 'latin1')]), wire)
})

test('how a message is cut into pieces does not show in what leaves', async () => {
  const message = fc.array(fc.constantFrom('.', '\r', '\n', '\r\n', '\r\n.', 'a', '\xe9'), { maxLength: 60 })
  await fc.assert(
    fc.asyncProperty(message, fc.infiniteStream(fc.integer({ min: 1, max: 5 })), async (parts, cuts) => {
      const bytes = Buffer.from(parts.join(''), 'latin1')
      const pieces: Buffer[] = []
      for (let from = 0; from < bytes.length; ) {
        const size = cuts.next().value
        pieces.push(bytes.subarray(from, from + size))
        from += size
      }
      const expected = bytes.toString('latin1').replace(/\r\n|\r|\n/g, '\r\n')
      const ended = expected === '' || expected.endsWith('\r\n') ? expected : `${expected}\r\n`
      assert.equal(await written(pieces), `${ended.replace(/(^|\r\n)\./g, '$1..')}.\r\n`)
    }),
    { seed },
  )
})

test('any message arrives octet for octet', async (t) => {
  const sink = await startSink()
  const client = newClient()
  t.after(() => Promise.all([client.closeAll(), sink.close()]))
  const line = fc
    .uint8Array({ maxLength: 50 })
    .map((bytes) => Buffer.from(bytes.map((byte) => (byte === 10 || byte === 13 ? 46 : byte))))
  await fc.assert(
    fc.asyncProperty(fc.array(line, { maxLength: 20 }), async (lines) => {
      const message = Buffer.concat(lines.flatMap((one) => [one, Buffer.from('\r\n')]))
      const delivery = client.open(routeTo([sink.address()]), { mailFrom: 'a@a.example' })
      await delivery.rcpt('b@b.example')
      const [outcome] = await delivery.send(text(message))
      assert.equal(outcome?.reply.code, 250)
      assert.deepEqual(sink.messages.pop()?.data, message)
    }),
    { numRuns: 50, seed },
  )
})

interface HarakaStream {
  add_line(line: string): void
  add_line_end(done: () => void): void
  pipe(to: NodeJS.WritableStream): void
  destroy(): void
}

const MessageStream = createRequire(__filename)('haraka-message-stream') as new (
  config: unknown,
  id: string,
  headers: string[],
) => HarakaStream

test("Haraka's message stream can be piped as it is, again for each host", async (t) => {
  // The first hangs up before it has all of it.
  const bad = await startSink({ onData: () => 'drop' })
  const good = await startSink()
  const client = newClient()
  t.after(() => Promise.all([client.closeAll(), bad.close(), good.close()]))
  const filler = `${'x'.repeat(1022)}\r\n`
  for (const spoolAfter of [-1, 0]) {
    const headers: string[] = ['Subject: dots\r\n', '.odd: header\r\n']
    const stream = new MessageStream(
      { main: { spool_after: spoolAfter } },
      `relay-guard-test-${process.pid}`,
      headers,
    )
    stream.add_line('Subject: replaced\r\n')
    stream.add_line('\r\n')
    // Haraka keeps the body dot-stuffed, as it came.
    for (const line of ['..dot\r\n', 'text\r\n', '...two\r\n']) stream.add_line(line)
    for (let i = 0; i < 16_000; i++) stream.add_line(filler)
    await new Promise<void>((resolve) => stream.add_line_end(resolve))
    const delivery = client.open(routeTo([bad.address(), good.address()], { key: `spool ${spoolAfter}` }), {
      mailFrom: 'a@a.example',
    })
    await delivery.rcpt('b@b.example')
    const outcomes = await delivery.send((body) => stream.pipe(body))
    stream.destroy()
    assert.equal(outcomes[0]?.reply.code, 250)
    const arrived = good.messages.pop()?.data.toString()
    const expected = 'Subject: dots\r\n.odd: header\r\n\r\n.dot\r\ntext\r\n..two\r\n'
    assert.ok(arrived === expected + filler.repeat(16_000), arrived?.slice(0, 100))
  }
})

/** So many turns of the event loop, in which what can be read and written is. */
async function turns(count: number) {
  for (; count > 0; count--) await new Promise((resolve) => setImmediate(resolve))
}

test('a next hop that reads slowly is waited for, and little of the message is held meanwhile', async (t) => {
  const gates: (() => void)[] = []
  const sink = await startSink({ pace: () => new Promise<void>((resolve) => gates.push(resolve)) })
  const client = newClient()
  t.after(() => Promise.all([client.closeAll(), sink.close()]))
  const size = 20 * 1024 * 1024
  let read = 0
  const line = Buffer.from(`${'x'.repeat(1022)}\r\n`)
  const source = Readable.from(
    (function* () {
      for (; read < size; read += line.length) yield line
    })(),
    { objectMode: false },
  )
  const delivery = client.open(routeTo([sink.address()]), { mailFrom: 'a@a.example' })
  await delivery.rcpt('b@b.example')
  const sent = delivery.send((body) => void source.pipe(body))
  // Let it fill what it can, until nothing more is read, then read on.
  let stalledAt = -1
  while (!gates.length || stalledAt !== read) {
    stalledAt = read
    await turns(100)
  }
  const open = setInterval(() => {
    for (const gate of gates.splice(0)) gate()
  }, 0)
  const [outcome] = await sent
  clearInterval(open)
  assert.equal(outcome?.reply.code, 250)
  assert.equal(sink.messages[0]?.data.length, size)
  assert.ok(stalledAt < 10 * 1024 * 1024, `${stalledAt} octets were read while nobody took them`)
})

test('a message that takes long in all, but never stands still, is not given up', async (t) => {
  const sink = await startSink()
  const client = newClient()
  t.after(() => Promise.all([client.closeAll(), sink.close()]))
  const delivery = client.open(routeTo([sink.address()], { timeout: 20_000 }), { mailFrom: 'a@a.example' })
  await delivery.rcpt('b@b.example')
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const [outcome] = await delivery.send(async (body) => {
    for (let i = 0; i < 10; i++) {
      await new Promise((resolve) => body.write('line\r\n', resolve))
      t.mock.timers.tick(16_000)
    }
    body.end()
  })
  t.mock.timers.reset()
  assert.equal(outcome?.reply.code, 250)
})
