import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Header, QueuedMail } from '../core/haraka/types'
import { readDomains } from '../plugins/domains/config'
import { mayBounce, routeOf, unstuffing } from '../plugins/domains/hooks/outbound'
import { fromAddresses, judgeLoop } from '../plugins/domains/policy/message'
import { addressOf, connectionOf } from './support/connection'
import { harakaHome } from './support/install'
import { readText } from './support/reading'

const email = createRequire(join(harakaHome, 'haraka.js'))('haraka-email-message') as {
  Header: new () => Header & { parse(lines: string[]): void }
}

function headerOf(lines: string[]): Header {
  const header = new email.Header()
  header.parse(lines.map((line) => `${line}\r\n`))
  return header
}

const from = (...lines: string[]) =>
  fromAddresses({ header: headerOf(lines) }).map(({ user, host }) => `${user}@${host}`)

const BOSS = 'boss@ours.example'

describe('the addresses of From:', () => {
  const plain: [string, string[]][] = [
    [BOSS, [BOSS]],
    [`Boss <${BOSS}>`, [BOSS]],
    [`"Boss, the" <${BOSS}>`, [BOSS]],
    [`x@evil.example, ${BOSS}`, ['x@evil.example', BOSS]],
    [`Us: x@evil.example, ${BOSS};`, ['x@evil.example', BOSS]],
    ['Undisclosed:;', []],
    [`${BOSS} (comment)`, [BOSS]],
    [`(comment) ${BOSS}`, [BOSS]],
    ['boss (c) @ (d) ours.example', [BOSS]],
    ['boss@ours(c).example', [BOSS]],
    ['boss @ ours . example', [BOSS]],
    ['"boss"@ours.example', ['"boss"@ours.example']],
    [`<@evil.example:${BOSS}>`, [BOSS]],
    ['=?utf-8?q?Boss?= <x@evil.example>', ['x@evil.example']],
    ['=?utf-8?q?boss=40ours=2Eexample?= <x@evil.example>', ['x@evil.example']],
    ['"boss@ours.example" <x@evil.example>', ['x@evil.example']],
  ]
  for (const [value, addresses] of plain)
    it(`are ${addresses.join(' and ') || 'none'} in ${value}`, () =>
      assert.deepEqual(from(`From: ${value}`), addresses))

  const broken = [
    `<${BOSS}`,
    `${BOSS}>`,
    `Boss ${BOSS}`,
    `"Boss <${BOSS}>`,
    `"x" b" <${BOSS}>`,
    `<${BOSS}> <x@evil.example>`,
    `x@evil.example; ${BOSS}`,
    `x@evil.example ${BOSS}`,
    `x@evil.example (,) ${BOSS}`,
    `${BOSS}@evil.example`,
    `<${BOSS}@evil.example>`,
    `${BOSS},`,
    `.${BOSS}`,
    'boss@ours.example.',
    'boss @ours.example junk',
    'Boss <boss@ ours.example> junk',
    'boss"@"ours.example',
    '<boss"@ours.example>',
    'boss＠ours.example',
    '=?utf-8?q?boss=40ours=2Eexample?=',
    '=?utf-8?q?Boss_=3Cboss=40ours=2Eexample=3E?=',
    '=?utf-8?b?Ym9zc0BvdXJzLmV4YW1wbGU=?=',
  ]
  for (const value of broken)
    it(`are found by their look in what cannot be parsed: ${value}`, () =>
      assert.ok(
        from(`From: ${value}`).some((address) => /@ours\.example\.?$/.test(address)),
        String(from(`From: ${value}`)),
      ))

  it('are those of every field, in any case, folded, and with a space before the colon', () => {
    assert.deepEqual(from('From: x@evil.example', `FROM:${BOSS}`), ['x@evil.example', BOSS])
    assert.deepEqual(from('From: x@evil.example', `From : ${BOSS}`), ['x@evil.example', BOSS])
    assert.deepEqual(from(`From\t:${BOSS}`), [BOSS])
    assert.deepEqual(from(`From:\r\n ${BOSS}`), [BOSS])
    assert.deepEqual(from('From: boss@ours.\r\n\texample'), [BOSS])
    assert.deepEqual(from(`Fromage: ${BOSS}`, `X-From: ${BOSS}`, `Sender: ${BOSS}`), [])
    assert.deepEqual(from('Subject: x'), [])
    assert.deepEqual(from('From:'), [])
  })

  it('are read without an error and in little time, whatever is sent', () => {
    const long = 65_536
    for (const value of [
      '('.repeat(long),
      'x'.repeat(long),
      '@'.repeat(long),
      '"'.repeat(long),
      ' "'.repeat(long),
      '<'.repeat(long),
      'a,'.repeat(long),
      'a:'.repeat(long),
      '\\'.repeat(long),
      `${' '.repeat(long)}x`,
      '=?utf-8?q?'.repeat(long / 8),
      '\ud800@x',
      'x@\0',
    ]) {
      const before = performance.now()
      from(`From: ${value}`)
      const took = performance.now() - before
      assert.ok(took < 2000, `${value.slice(0, 10)}…: ${Math.round(took)} ms`)
    }
    fc.assert(
      fc.property(
        fc.array(
          fc.oneof(
            fc.string(),
            fc.constantFrom('"', '<', '>', '@', ':', ';', ',', '(', ')', '=?utf-8?q?', '?='),
          ),
          { maxLength: 12 },
        ),
        (pieces) => {
          from(`From: ${pieces.join('').replace(/[\r\n]/g, ' ')}`)
        },
      ),
    )
  })
})

describe('a message that has been here before', () => {
  const passes = (received: string[], host = 'mx.ours.example') => {
    const connection = connectionOf()
    const transaction = connection.begin()
    transaction.header = headerOf(received.map((line) => `Received: ${line}`))
    return judgeLoop(transaction, host)?.code
  }
  const line = (host: string) => `from a.example by ${host} (Haraka) with ESMTP id X;\r\n\tdate`
  const times = (count: number, host: string) => Array.from({ length: count }, () => line(host))

  it('may come five times, and is a loop the sixth (RFC 5321 6.3)', () => {
    assert.equal(passes(times(5, 'mx.ours.example')), undefined)
    assert.equal(passes(times(6, 'mx.ours.example')), 554)
    assert.equal(passes(times(6, 'MX.Ours.Example')), 554)
  })

  it('is not one that went through hosts with names like ours', () => {
    for (const host of [
      'mx.ours.example.org',
      'amx.ours.example',
      'mx-ours.example',
      'mxxours.example',
      'mx.ours.example-x',
    ])
      assert.equal(passes(times(20, host)), undefined, host)
  })

  it('does not count the line of this pass', () => {
    const connection = connectionOf()
    const transaction = connection.begin()
    const now = `from a by mx (Haraka) id ${transaction.uuid};`
    transaction.header = headerOf([...times(5, 'mx'), now].map((each) => `Received: ${each}`))
    assert.equal(judgeLoop(transaction, 'mx'), undefined)
  })
})

const config = (text: string) =>
  readText('domains.ini', text, (reading) =>
    readDomains(reading, { ownListener: () => false, hostName: 'mx' }),
  ).value

describe('the queue', () => {
  async function unstuffed(chunks: string[]): Promise<string> {
    const got: Buffer[] = []
    await pipeline(
      chunks.map((chunk) => Buffer.from(chunk, 'latin1')),
      unstuffing(),
      async (parts: AsyncIterable<Buffer>) => {
        for await (const part of parts) got.push(part)
      },
    )
    return Buffer.concat(got).toString('latin1')
  }

  it('loses the dot at the start of a line, however the message is cut into pieces', async () => {
    assert.equal(await unstuffed(['..a\r\n', '.', '.b\r\nc.\r\n...', '\r\n..']), '.a\r\n.b\r\nc.\r\n..\r\n.')
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.string({ unit: fc.constantFrom('.', '\r', '\n', 'a', '\r\n.') })),
        async (chunks) => {
          assert.equal(await unstuffed(chunks), chunks.join('').replace(/(^|\n)\./g, '$1'))
        },
      ),
      { numRuns: 300 },
    )
  })

  it('goes by the route of our domain, else by the smarthost, else by the MX', () => {
    const HOP = 'next_hop = smtp://10.0.0.5'
    const smart = config(
      `[main]\nsmarthost = smtp://10.0.0.9\n[ours.example]\n${HOP}\n[p.example]\ndelivery = plugin\n`,
    )
    const ours = smart.domains.first?.route
    assert.equal(routeOf(smart, 'OURS.example.'), ours)
    assert.equal(routeOf(smart, 'other.example'), smart.smarthost)
    assert.equal(routeOf(smart, '[192.0.2.1]'), smart.smarthost)
    assert.equal(routeOf(smart, 'p.example'), undefined)
    assert.equal(routeOf(config(`[ours.example]\n${HOP}\n`), 'other.example'), undefined)
  })

  it('sends a DSN to who may relay, and to others as bounce says', () => {
    const bounces = (how: string, memory: object | undefined) => {
      const mail = {
        todo: { mail_from: addressOf('<a@b.example>'), notes: { relay_guard: memory } },
        lognotice: () => undefined,
      } as unknown as QueuedMail
      return mayBounce(config(`[main]\nbounce = ${how}\n`), mail)
    }
    const stranger = { mayRelay: false, spfPass: false }
    const known = { mayRelay: false, spfPass: true }
    const relay = { mayRelay: true, spfPass: false }
    assert.deepEqual(
      ['verified', 'send', 'drop'].map((how) => bounces(how, stranger)),
      [false, true, false],
    )
    assert.deepEqual(
      ['verified', 'send', 'drop'].map((how) => bounces(how, known)),
      [true, true, false],
    )
    assert.deepEqual(
      ['verified', 'send', 'drop'].map((how) => bounces(how, relay)),
      [true, true, true],
    )
  })
})
