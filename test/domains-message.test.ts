import assert from 'node:assert/strict'
import { pipeline } from 'node:stream/promises'
import { describe, it } from 'node:test'
import { readDomains } from '../plugins/domains/config'
import { unstuffing } from '../plugins/domains/hooks/queued-mail'
import { type DsnRecipient, mayBounce } from '../plugins/domains/policy/bounce'
import { fromAddresses, MAX_FROM, valuesOf } from '../plugins/domains/policy/header'
import { judgeFromSize, judgeLoop } from '../plugins/domains/policy/message'
import { queuedRoute } from '../plugins/domains/policy/queued-route'
import './support/connection'
import { fc, seed } from './support/random'
import { readText } from './support/reading'

/** Header fields as Haraka keeps them. */
const fieldsOf = (lines: string[]) => lines.map((line) => `${line}\n`)

const from = (...lines: string[]) =>
  fromAddresses(valuesOf(fieldsOf(lines), 'From')).map(({ user, host }) => `${user}@${host}`)

/** boss@ours.example */
const EBCDIC = Buffer.from('8296a2a27c96a499a24b85a781949793 85'.replace(' ', ''), 'hex').toString('base64')

const BOSS = 'boss@ours.example'

describe('the addresses of From:', () => {
  it('are the same where a value is so simple that it is not parsed: a blank in front makes it one that is', () => {
    const text = (pieces: string[], maxLength: number) =>
      fc.array(fc.constantFrom(...pieces), { minLength: 1, maxLength }).map((parts) => parts.join(''))
    const name = text(['a', 'B', '7', ' ', ' ', '.', ',', "'", '-', '_'], 8)
    const local = text(['a', 'B', '7', '.', '_', '+', '=', '-', '!', '"'], 8)
    const host = text(['a', 'B', '7', '.', '.', '-', '_', 'xn--', 'xn--mnchen-3ya', '\u00fc'], 8)
    const value = fc.tuple(
      fc.oneof(
        fc.constant(''),
        name.map((n) => `${n} `),
        name.map((n) => `"${n}" `),
        name.map((n) => `"${n}"`),
      ),
      local,
      fc.oneof(host, fc.constantFrom('ours.example', 'a.b', 'A.example')),
    )
    let mailboxes = 0
    fc.assert(
      fc.property(value, ([shown, user, at]) => {
        const simple = `${shown}<${user}@${at}>`
        const found = fromAddresses([simple])
        mailboxes += found.length
        assert.deepEqual(found, fromAddresses([` ${simple}`]))
      }),
      { numRuns: 3000 },
    )
    assert.ok(mailboxes > 1000)
  })

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
    ['"boss@ours.example" <x@evil.example>', ['x@evil.example']],
    ['x@evil.example (boss@ours.example)', ['x@evil.example']],
    ['"J\u00f6rg, Boss" <x@evil.example>, y@evil.example', ['x@evil.example', 'y@evil.example']],
    ['J\u00f6rg M\u00fcller <x@evil.example>', ['x@evil.example']],
    ['"boss"\tof us <x@evil.example>', ['x@evil.example']],
  ]
  for (const [value, addresses] of plain)
    it(`are ${addresses.join(' and ') || 'none'} in ${value}`, () =>
      assert.deepEqual(from(`From: ${value}`), addresses))

  const broken = [
    `${BOSS} <x@evil.example>`,
    `Boss ${BOSS} <x@evil.example>`,
    `boss @ours.example <x@evil.example>`,
    `Us ${BOSS}: x@evil.example;`,
    `x@evil.example, ${BOSS} <y@evil.example>`,
    '<boss@ours.example\0>',
    '<boss@ours.example\x01>',
    '<bo\0ss@ou\0rs.example>',
    '<boss@ours\u200b.example>',
    '<boss@ours.example\ufffd>',
    '<boss\x7f@ours.example>',
    '<boss@ours\u3164.example>',
    '<boss@ours\u034f.example\ufe0f>',
    '<boss@(c)ours.example> junk',
    '<boss@ours.example!>',
    `=?utf-8?q?x?= ${BOSS} <x@evil.example>`,
    `=?utf-16be?b?${Buffer.from(BOSS, 'utf16le').swap16().toString('base64')}?=`,
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
    // Blanks between encoded words are not shown (RFC 2047 6.2), nor is where a letter is cut in two.
    '=?utf-8?q?boss=40ours.exam?= =?utf-8?q?ple?=',
    '=?utf-8?q?boss=40ours.exam?=   =?us-ascii?b?cGxl?=',
    '=?utf-8?q?boss=EF=BC?= =?utf-8?q?=A0ours.example?=',
    '=?utf-8?q?boss=40ours.exam?= (c) =?utf-8?q?ple?= <x@evil.example>',
    '=?utf-8?q?boss=40ours.exam?= =?utf-8?q?ple?= <x@evil.example>',
    // Nor are blanks inside an address, by common readers.
    'boss@ou rs.example',
    'boss@ours .exam ple',
    'boss@ ou\trs.ex  ample, x@evil.example',
    'Boss <boss@ou rs.example>',
    'x@evil.example <boss@ou rs.example> x',
    'boss@ou rs.example is my address',
    // What becomes an @ is one.
    'boss\uff20ours.example <x@evil.example>',
    'boss\ufe6bours.example <x@evil.example>',
    'The "great" boss\uff20ours.example (c) <x@evil.example>',
    '(") boss\uff20ours.example (") <x@evil.example>',
    '"a \\" b" boss\uff20ours.example <x@evil.example>',
    'boss\uff20ours.example: x@evil.example;',
    '<boss\uff20ours.example@evil.example>',
    'y@evil.example, boss\uff20ours.example <x@evil.example>',
    '=?utf-8?q?boss=40ours=2Eexample?= <x@evil.example>',
    '=?utf-8?b?Ym9zc0BvdXJzLmV4YW1wbGU=?= <x@evil.example>',
    '=?utf-8?q?boss=EF=BC=A0ours=2Eexample?= <x@evil.example>',
    '=?utf-8?q?boss=40ours=2Eexample?=: x@evil.example;',
    '=?utf-8*en?q?boss=40ours=2Eexample?= <x@evil.example>',
    '=?utf-8?q?=28boss=40ours=2Eexample?= <x@evil.example>',
    '=?utf-8?q?=22boss=40ours=2Eexample=22?= <x@evil.example>',
    '=?utf-8?q?"boss=40ours=2Eexample"?= <x@evil.example>',
    '=?utf-8?q?(boss=40ours=2Eexample)?= <x@evil.example>',
    '=?utf-8?q?boss=40ours=2Eexample or so?= <x@evil.example>',
    'Boss =?utf-8?q?boss=40ours=2Eexample?= "x" <x@evil.example>',
    `=?${'x'.repeat(200)}?q?boss=40ours=2Eexample?= <x@evil.example>`,
    // Whatever the charset, which may have its own words for an @.
    '=?utf-7?q?boss+AEA-ours.example?=',
    '=?utf-7?q?boss+AEA-ours.example?= <x@evil.example>',
    '=?UTF-7?b?Ym9zcytBRUEtb3Vycy5leGFtcGxl?= <x@evil.example>',
    '=?unicode-1-1-utf-7?q?boss+AEAAbwB1AHI-s.example?= <x@evil.example>',
    '=?gb2312?q?boss=A3=C0ours.example?= <x@evil.example>',
    '=?shift_jis?q?boss=81=97ours.example?= <x@evil.example>',
    '=?iso-2022-jp?q?boss=1B=24B=21=77=1B=28Bours.example?= <x@evil.example>',
    `=?utf-16be?b?${Buffer.from('boss＠ours.example', 'utf16le').swap16().toString('base64')}?= <x@evil.example>`,
    `=?utf-16le?b?${Buffer.from('boss＠ours.example', 'utf16le').toString('base64')}?= <x@evil.example>`,
    `=?utf-16?b?${Buffer.from('\ufeffboss＠ours.example', 'utf16le').swap16().toString('base64')}?= <x@evil.example>`,
    `=?cp037?b?${EBCDIC}?= <x@evil.example>`,
    `=?ibm500?b?${EBCDIC}?=`,
  ]
  for (const value of broken)
    it(`are found by their look in what cannot be parsed: ${value}`, () =>
      assert.ok(
        from(`From: ${value}`).some((address) => /@ours\.example\.?$/.test(address)),
        String(from(`From: ${value}`)),
      ))

  // Ordinary mail, of whoever may write as in no domain of ours.
  const ordinary = [
    'x@evil.example',
    '<x@evil.example>',
    'X <x@evil.example>',
    'X Y. Z <x@evil.example>',
    '"X Y" <x@evil.example>',
    '"Y, X" <x@evil.example>',
    '"X (Y)" <x@evil.example>',
    '"X \\"the\\" Y" <x@evil.example>',
    "O'Neill <x@evil.example>",
    "'x@evil.example' <x@evil.example>",
    'X-Y <x.y+tag@sub.evil.example>',
    'X & Y <x_y@evil.example>',
    'X | Y <x@evil.example>',
    'X! <x@evil.example>',
    'x@evil.example (X Y)',
    '(X) x@evil.example',
    'X (Y) Z <x@evil.example>',
    'x@evil.example (boss@ours.example)',
    'x@evil.example (boss\uff20ours.example)',
    '"boss@ours.example" <x@evil.example>',
    '"boss\uff20ours.example" <x@evil.example>',
    '"Boss (boss@ours.example)" <x@evil.example>',
    '"boss@ours.example via List" <x@evil.example>',
    '"=?utf-8?q?boss=40ours=2Eexample?=" <x@evil.example>',
    '"boss@ours.example" via List <x@evil.example>',
    'boss at ours.example <x@evil.example>',
    'ours.example <x@evil.example>',
    '"x@evil.example" <x@evil.example>',
    'x@evil.example <x@evil.example>',
    'J\u00f6rg M\u00fcller <x@evil.example>',
    '"J\u00f6rg, M\u00fcller" <x@evil.example>',
    '\u674e\u5c0f\u9f99 <x@evil.example>',
    '\u5f20\uff0c\u4e09 <x@evil.example>',
    '\u682a\u5f0f\u4f1a\u793e\uff08\u6771\u4eac\uff09 <x@evil.example>',
    '\ud83d\udc68\u200d\ud83d\udc69 Family <x@evil.example>',
    '=?utf-8?q?J=C3=B6rg_M=C3=BCller?= <x@evil.example>',
    '=?iso-8859-1?q?J=F6rg?= =?iso-8859-1?q?_M=FCller?= <x@evil.example>',
    '=?utf-8?b?5p2O5bCP6b6Z?= <x@evil.example>',
    '=?gb2312?b?wO7QocH6?= <x@evil.example>',
    '=?iso-2022-jp?b?GyRCRWw1fhsoQg==?= <x@evil.example>',
    '=?koi8-r?q?=E9=D7=C1=CE?= <x@evil.example>',
    '=?x-unknown?q?J=F6rg?= <x@evil.example>',
    '=?utf-7?q?J+APY-rg?= <x@evil.example>',
    '=?utf-8?q?J=C3=B6rg_=40_Evil?= <x@evil.example>',
    '=?utf-8?q?x=40evil.example?= <x@evil.example>',
    '=?utf-8?q?J=C3=B6rg=2C_ours.example?= <x@evil.example>',
    '=?utf-8?q?J=C3=B6rg?= (=?utf-8?q?boss=40ours.example?=) <x@evil.example>',
    'X <x@evil.example>, Y <y@evil.example>',
    'Undisclosed recipients:;',
    'undisclosed-recipients:;',
    'Team: X <x@evil.example>, y@evil.example;',
    '"x y"@evil.example',
    'x @ evil . example',
    'X <x@[192.0.2.1]>',
    'X <x@b\u00fccher.example>',
    'X <x@xn--bcher-kva.example>',
    '<@relay.evil.example:x@evil.example>',
    'X <x@evil.example>,',
    'X Y <x@evil.example',
    'X <x@evil. example>',
    'MAILER-DAEMON@evil.example (Mail Delivery System)',
    '',
  ]
  for (const value of ordinary)
    it(`are none of ours in ordinary mail: ${value}`, () =>
      assert.ok(
        !from(`From: ${value}`).some((address) => /ours\.example/.test(address.replace(/^.*@/, ''))),
        String(from(`From: ${value}`)),
      ))

  it('are those of every field, in any case, folded, and with a space before the colon', () => {
    assert.deepEqual(from('From: x@evil.example', `FROM:${BOSS}`), ['x@evil.example', BOSS])
    assert.deepEqual(from('From: x@evil.example', `From : ${BOSS}`), ['x@evil.example', BOSS])
    assert.deepEqual(from(`From\t:${BOSS}`), [BOSS])
    assert.deepEqual(from(`From:\r\n ${BOSS}`), [BOSS])
    assert.deepEqual(from('From: boss@ours.\r\n\texample'), [BOSS])
    assert.ok(from('From: boss@ou\r\n rs.example').includes(BOSS))
    assert.ok(from('From: =?utf-8?q?boss=40ours.exam?=\r\n =?utf-8?q?ple?= <x@evil.example>').includes(BOSS))
    assert.deepEqual(from(`Fromage: ${BOSS}`, `X-From: ${BOSS}`, `Sender: ${BOSS}`), [])
    assert.deepEqual(from('Subject: x'), [])
    assert.deepEqual(from('From:'), [])
  })

  it('are read without an error, whatever is sent, and no more of it than MAX_FROM octets', () => {
    const long = 65_536
    for (const unit of [
      '(',
      'x',
      '@',
      '"',
      ' "',
      '<',
      'a,',
      'a:',
      '\\',
      ' ',
      '=?utf-8?q?',
      'a@b,',
      '(a)@(b)',
      '\ufdfa',
      '=?utf-7?q?+AEA-?= ',
      '=?a?b?QA==?=',
      'a @',
      '@ a',
    ]) {
      from(`From: ${unit.repeat(MAX_FROM / unit.length)}`)
      const values = valuesOf(fieldsOf([`From: <${unit.repeat(long)}>`]), 'From')
      assert.equal(judgeFromSize(values)?.status, '5.6.0', unit)
    }
    for (const odd of ['\ud800@x', 'x@\0', '\\', '"\\']) from(`From: ${odd}`)
    const many = valuesOf(fieldsOf(Array(5).fill(`From: ${'x'.repeat(MAX_FROM / 4)}`)), 'From')
    assert.equal(judgeFromSize(many)?.code, 554)
    assert.equal(judgeFromSize(many.slice(1)), undefined)
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
      { seed },
    )
  })

  it('include ours wherever it stands outside of quotes and comments, whatever stands around it', () => {
    const around = fc.array(
      fc.constantFrom(
        ' ',
        'x',
        '<',
        '>',
        ',',
        ';',
        ':',
        '@',
        '(',
        ')',
        '"',
        '\\',
        '\0',
        '\u200b',
        'y@evil.example',
        '=?',
        '?=',
      ),
      { maxLength: 8 },
    )
    fc.assert(
      fc.property(around, around, (before, after) => {
        const value = `${before.join('')} <${BOSS}> ${after.join('')}`
        if (/["(\\]/.test(value)) return
        assert.ok(
          from(`From: ${value}`).some((address) => address === BOSS),
          value,
        )
      }),
      { seed, numRuns: 2000 },
    )
  })
})

describe('a message that has been here before', () => {
  const passes = (received: string[], host = 'mx.ours.example') =>
    judgeLoop(fieldsOf(received.map((line) => `Received: ${line}`)), 'UUID.1', host)?.code
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
    assert.equal(passes([...times(5, 'mx'), 'from a by mx (Haraka) id UUID.1;'], 'mx'), undefined)
    assert.equal(passes([...times(5, 'mx'), 'from a by mx (Haraka) id UUID.9;'], 'mx'), 554)
  })
})

const config = (text: string) =>
  readText('domains.ini', text, (reading) =>
    readDomains(reading, { ownListener: () => false, hostName: 'mx' }),
  ).value

describe('the queue', () => {
  async function unstuffed(chunks: string[], wholly: boolean): Promise<string> {
    const got: Buffer[] = []
    await pipeline(
      chunks.map((chunk) => Buffer.from(chunk, 'latin1')),
      unstuffing(wholly),
      async (parts: AsyncIterable<Buffer>) => {
        for await (const part of parts) got.push(part)
      },
    )
    return Buffer.concat(got).toString('latin1')
  }

  it('loses the dot at the start of a line, however the message is cut into pieces', async () => {
    assert.equal(
      await unstuffed(['..a\r\n', '.', '.b\r\nc.\r\n...', '\r\n..'], true),
      '.a\r\n.b\r\nc.\r\n..\r\n.',
    )
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.string({ unit: fc.constantFrom('.', '\r', '\n', 'a', '\r\n.') })),
        async (chunks) => {
          assert.equal(await unstuffed(chunks, true), chunks.join('').replace(/(^|\n)\./g, '$1'))
        },
      ),
      { seed, numRuns: 300 },
    )
  })

  it('keeps the dots of a header that Haraka has written itself, and loses those of its body', async () => {
    const dots = fc.string({ unit: fc.constantFrom('.', 'a', '\r\n.', '\r\n..') })
    await fc.assert(
      fc.asyncProperty(
        fc.array(dots.map((line) => `..From: ${line.replace(/\r\n/g, '')}\r\n`)),
        dots,
        fc.nat(40),
        async (header, body, cut) => {
          const file = `${header.join('')}\r\n${body}`
          const expected = `${header.join('')}\r\n${body.replace(/(^|\n)\./g, '$1')}`
          assert.equal(await unstuffed([file.slice(0, cut), file.slice(cut)], false), expected)
        },
      ),
      { seed, numRuns: 300 },
    )
  })

  it('goes by the route of our domain, else by the smarthost, else by the MX', () => {
    const HOP = 'next_hop = smtp://10.0.0.5'
    const smart = config(
      `[main]\nsmarthost = smtp://10.0.0.9\n[ours.example]\n${HOP}\n[p.example]\ndelivery = plugin\n`,
    )
    const bare = config('[p.example]\ndelivery = plugin\n')
    const ours = smart.domains.first?.route
    const stranger = { mayRelay: false }
    const relay = { mayRelay: true }
    const held = (host: string, outcome: string) => `held ${outcome} for ${host}`
    const cases: [typeof smart, string, object | undefined, unknown][] = []
    for (const memory of [undefined, {}, relay, stranger]) {
      cases.push([smart, 'OURS.example.', memory, ours])
      for (const of of [smart, bare])
        cases.push([of, 'p.example', memory, held('p.example', 'message.no-queue-plugin')])
    }
    for (const memory of [undefined, {}, relay])
      cases.push(
        [smart, 'other.example', memory, smart.smarthost],
        [smart, '[192.0.2.1]', memory, smart.smarthost],
        [bare, 'other.example', memory, 'MX'],
      )
    for (const host of ['other.example', 'sub.ours.example', '[192.0.2.1]', ''])
      for (const of of [smart, bare]) cases.push([of, host, stranger, held(host, 'message.domain-gone')])
    for (const [of, host, memory, expected] of cases) {
      const { route, held: decision, othersMayRoute } = queuedRoute(of, host, memory)
      if (decision) {
        assert.deepEqual([decision.code, decision.status, route], [451, '4.3.5', undefined])
        assert.equal(othersMayRoute ?? false, decision.outcome === 'message.no-queue-plugin')
      }
      const way = decision ? held(host, decision.outcome) : (route ?? 'MX')
      assert.equal(way, expected, `${host} ${JSON.stringify(memory)}`)
    }
  })

  it('sends a DSN to who may relay, and to others as bounce says', () => {
    const stranger = { mayRelay: false, spfPass: false }
    const known = { mayRelay: false, spfPass: true }
    const relay = { mayRelay: true, spfPass: false }
    const nobody = [false, false, false]
    // Under verified, send and drop; a memory of another version may lack anything.
    const rows: [DsnRecipient, Parameters<typeof mayBounce>[2], boolean[]][] = [
      ['foreign', stranger, [false, true, false]],
      ['ours', stranger, [false, true, false]],
      ['foreign', {} as typeof stranger, [false, true, false]],
      ['foreign', known, [true, true, false]],
      ['foreign', relay, [true, true, true]],
      ['foreign', undefined, [false, true, false]],
      ['ours', undefined, [true, true, true]],
      ['null', undefined, nobody],
      ['null', relay, nobody],
      ['null', known, nobody],
    ]
    for (const [recipient, memory, expected] of rows) {
      const answers = ['verified', 'send', 'drop'].map((how) =>
        mayBounce(config(`[main]\nbounce = ${how}\n`), recipient, memory),
      )
      assert.deepEqual(
        answers.map((decision) => !decision),
        expected,
        `${recipient} ${JSON.stringify(memory)}`,
      )
      for (const decision of answers) assert.equal(decision?.outcome ?? 'bounce.dropped', 'bounce.dropped')
    }
  })
})
