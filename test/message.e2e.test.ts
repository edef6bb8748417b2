// What is judged is what leaves, through a real Haraka: forwarded, over LMTP and out of the queue; and by the route in force.
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'

import { type Haraka, startHaraka } from './support/haraka'
import { harakaHome } from './support/install'
import { until } from './support/patience'
import { fc, seed } from './support/random'
import { type Sink, startSink } from './support/sink'
import { SmtpClient } from './support/smtp-client'

const { version } = JSON.parse(readFileSync(join(harakaHome, 'package.json'), 'utf8')) as { version: string }
const STRANGER = '127.10.0.1'
const RELAY = '127.30.0.1'

let forward: Sink
let queue: Sink
let lmtp: Sink
let away: Sink
let smart: Sink
let haraka: Haraka
let directory: string

const domains = (smarthost: Sink, action = 'reject') =>
  [
    `[main]\nanti_spoof = reject\nanti_spoof_from = ${action}\nsmarthost = ${smarthost.address()}\nsmarthost_tls = none\n`,
    `[forward.test]\nnext_hop = ${forward.address()}\ntls = none\n`,
    `[queue.test]\nnext_hop = ${queue.address()}\ntls = none\ndelivery = queue\n`,
    `[lmtp.test]\nnext_hop = ${lmtp.address()}\n`,
  ].join('')

before(async () => {
  directory = mkdtempSync(join(tmpdir(), 'relay-guard-message-'))
  forward = await startSink()
  queue = await startSink()
  lmtp = await startSink({ lmtp: true, path: join(directory, 'lmtp') })
  away = await startSink({ respond: (stage) => (stage === 'mail' ? '451 4.3.2 Not today' : undefined) })
  smart = await startSink()
  haraka = await startHaraka({
    plugins: ['relay-guard/acl', 'relay-guard/domains'],
    files: {
      'relay-guard/acl.ini': '[relay]\n127.30.0.0/16\n',
      'relay-guard/domains.ini': domains(away),
      // What the log of Haraka 3.2 asks for, which cannot be told a line length by a plugin.
      ...(version.startsWith('3.2.') && {
        'connection.ini': readFileSync(join(harakaHome, 'config', 'connection.ini'), 'utf8').replace(
          /^data_line_length=.*/m,
          'data_line_length=16384',
        ),
      }),
      'outbound.ini': 'temp_fail_intervals=5s*10\n',
    },
  })
})
after(async () => {
  await haraka?.stop()
  await Promise.all([forward, queue, lmtp, away, smart].map((sink) => sink?.close()))
  rmSync(directory, { recursive: true, force: true })
})

/** Sends octets as they are after DATA, and returns the answer to the final dot. */
async function sendRaw(
  to: string,
  wire: Buffer,
  from = 'a@evil.example',
  ip = STRANGER,
  verb = 'EHLO',
): Promise<string> {
  const client = await SmtpClient.connect({ port: haraka.port, from: ip })
  try {
    assert.equal((await client.command(`${verb} client.example`)).code, 250)
    assert.equal((await client.command(`MAIL FROM:<${from}>`)).code, 250)
    assert.equal((await client.command(`RCPT TO:<${to}>`)).code, 250)
    assert.equal((await client.command('DATA')).code, 354)
    client.raw(wire)
    return (await client.reply()).lines.join('\n')
  } finally {
    client.destroy()
  }
}

/** The message that arrived, without the lines that this server put in front. */
function arrived(sink: Sink): string {
  const text = sink.messages.at(-1)!.data.toString('latin1')
  return text.slice(text.indexOf('X-First: '))
}

const ways: [string, () => Sink][] = [
  ['forward.test', () => forward],
  ['lmtp.test', () => lmtp],
  ['queue.test', () => queue],
]

const octet = fc.integer({ min: 0x80, max: 0xff }).map((code) => String.fromCharCode(code))
const text = fc
  .array(fc.oneof(fc.constantFrom('a', '.', '..', ' ', '<', '@', '=?x?q?a?=', 'word'), octet), {
    maxLength: 12,
  })
  .map((parts) => parts.join(''))
const field = fc
  .tuple(fc.constantFrom('', '.', '..'), fc.constantFrom('Subject', 'X', 'To ', 'From'), text, fc.boolean())
  .map(([dots, name, value, fold]) => `${dots}${name}:${fold ? '\r\n ' : ''} ${value}`)
const line = fc.oneof(text, field, fc.constant('x'.repeat(3000)))

describe('a message of any octets', () => {
  for (const [domain, sink] of ways) {
    test(`arrives at ${domain} as it was sent`, async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(field, { maxLength: 5 }),
          fc.array(line, { maxLength: 5 }),
          fc.constantFrom('EHLO', 'HELO'),
          async (header, body, verb) => {
            const lines = ['X-First: 1', ...header, 'Message-Id: <a@b>', 'Date: now', '', ...body]
            const wire = Buffer.from(
              lines
                .map((each) => `${each}\r\n`)
                .join('')
                .replace(/^\.$/gm, '..'),
              'latin1',
            )
            const before = sink().messages.length
            const answer = await sendRaw(
              `b@${domain}`,
              Buffer.concat([wire, Buffer.from('.\r\n')]),
              undefined,
              undefined,
              verb,
            )
            assert.match(answer, /^250/)
            await until(() => sink().messages.length > before)
            assert.equal(arrived(sink()), wire.toString('latin1').replace(/^\./gm, ''))
          },
        ),
        { seed, numRuns: 40, includeErrorInReport: true },
      )
      await haraka.queueEmpty()
    })

    const refused: [string, string, RegExp][] = [
      [
        'a dot that another server might drop before From:',
        '..From: Boss <boss@forward.test>\r\n\r\n',
        /^250/,
      ],
      [
        'a dot that this server drops before From:',
        '.From: Boss <boss@forward.test>\r\n\r\n',
        /^550 5\.7\.1 .*ours/,
      ],
      [
        'a CR alone in the body',
        'X: y\r\n\r\nline1\r.\r\nMAIL FROM:<x@y>\rfoo\r\n',
        /^554 5\.6\.0 .*CR or LF/,
      ],
      ['CR CR LF in the header', 'X: y\r\r\nFrom: a@b.example\r\n\r\n', /^554 5\.6\.0/],
      ['a NUL', 'X: y\r\n\r\na\0b\r\n', /^554 5\.6\.0 .*NUL/],
      [
        'a line in the header that is none',
        'X: y\r\njunk\r\nFrom: a@b.example\r\n\r\n',
        /^554 5\.6\.0 .*no header field/,
      ],
      [
        'an @ in a name',
        'From: boss@forward.test <x@evil.example>\r\n\r\n',
        /^550 5\.7\.1 .*boss@forward\.test is ours/,
      ],
      ['the same in quotes', 'From: "boss@forward.test" <x@evil.example>\r\n\r\n', /^250/],
      ['two From: fields', 'From: x@evil.example\r\nFrom : boss@queue.test\r\n\r\n', /^550 5\.7\.1/],
      [
        'more header lines than Haraka keeps',
        `${'X: y\r\n'.repeat(1001)}\r\n`,
        /^554 5\.6\.0 .*more than 1000 lines/,
      ],
      [
        'From: of 0.9 MB',
        `From: ${`${'x'.repeat(900)}\r\n `.repeat(1000)}\r\n\r\n`,
        /^554 5\.6\.0 .*longer than/,
      ],
      [
        'a line that Haraka would cut',
        `X: y\r\n\r\n${'x'.repeat(20_000)}\r\n`,
        /^554 5\.6\.0 .*longer than 16384/,
      ],
    ]
    for (const [name, message, answer] of refused)
      test(`is answered ${answer.source} for ${domain} with ${name}`, async () => {
        const before = sink().messages.length
        assert.match(
          await sendRaw(`b@${domain}`, Buffer.from(`X-First: 1\r\n${message}.\r\n`, 'latin1')),
          answer,
        )
        await haraka.queueEmpty()
        assert.equal(sink().messages.length - before, answer.source.startsWith('^250') ? 1 : 0)
      })

    test(`<postmaster> as a sender is told to ${domain} without a domain`, async () => {
      const before = sink().messages.length
      assert.match(
        await sendRaw(`b@${domain}`, Buffer.from('X: y\r\n\r\n.\r\n'), 'postmaster', RELAY),
        /^250/,
      )
      await until(() => sink().messages.length > before)
      assert.equal(sink().messages.at(-1)?.from, 'postmaster')
    })
  }
})

test('HELO changes neither how a message is judged nor what a later EHLO on the connection is told', async () => {
  const authors = [
    'boss@forward.test',
    'boss＠forward.test',
    'boss@ｆorward.test',
    'Bo\u200bss <boss@forward.test>',
  ]
  for (const verb of ['HELO', 'EHLO'])
    for (const author of authors) {
      const wire = Buffer.from(`From: ${author}\r\n\r\n.\r\n`)
      assert.match(await sendRaw('b@forward.test', wire, undefined, undefined, verb), /^550 5\.7\.1/, author)
    }

  const client = await SmtpClient.connect({ port: haraka.port, from: STRANGER })
  try {
    await client.command('HELO client.example')
    assert.equal((await client.command('MAIL FROM:<a@evil.example>')).code, 250)
    await client.ehlo()
    assert.equal((await client.command('MAIL FROM:<jörg@evil.example> SMTPUTF8 BODY=8BITMIME')).code, 250)
    await client.command('RCPT TO:<b@queue.test>')
    assert.equal((await client.command('DATA')).code, 354)
    const before = queue.messages.length
    const message = 'X-First: jörg\r\nMessage-Id: <a@b>\r\nDate: now\r\n\r\nü\r\n'
    client.raw(`${message}.\r\n`)
    assert.equal((await client.reply()).code, 250)
    await haraka.queueEmpty()
    assert.equal(queue.messages.length, before + 1)
    assert.equal(queue.messages.at(-1)?.from, 'jörg@evil.example')
    assert.equal(arrived(queue), Buffer.from(message).toString('latin1'))
  } finally {
    client.destroy()
  }
})

test('queued mail goes by the smarthost in force at the try, and the tag is the first line', async () => {
  assert.match(
    await sendRaw('v@victim.example', Buffer.from('X: y\r\n\r\n.\r\n'), 'a@b.example', RELAY),
    /^250/,
  )
  await until(() => away.lines.some((said) => said.startsWith('MAIL')))
  haraka.write('relay-guard/domains.ini', domains(smart, 'tag'))
  await until(() => smart.messages.length > 0)
  await haraka.queueEmpty()
  assert.deepEqual(
    smart.messages.map(({ to }) => to),
    [['v@victim.example']],
  )

  for (const [domain, sink] of ways) {
    const before = sink().messages.length
    const message = 'X-Relay-Guard : mine\r\nFrom: boss@forward.test\r\n\r\n.\r\n'
    assert.match(await sendRaw(`b@${domain}`, Buffer.from(message)), /^250/)
    await until(() => sink().messages.length > before)
    const data = sink().messages.at(-1)!.data.toString()
    assert.match(data, /^X-Relay-Guard: forged-from; .*\r\n(?!.*X-Relay-Guard)/s, domain)
  }
  assert.deepEqual(haraka.failures(), [])
})
