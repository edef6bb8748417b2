import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Decision, printRule } from '../core/decision'
import { answer, DSN, guarded, record, replyId } from '../core/haraka/reply'
import type { Plugin } from '../core/haraka/types'
import { clean } from '../core/text'
import { arrayWork } from './support/array-work'
import { connectionOf, pluginOf } from './support/connection'
import { fc } from './support/random'

const denial: Decision = {
  outcome: 'recipient.relay-denied',
  code: 550,
  status: '5.7.1',
  text: 'Relaying denied',
  rule: { file: 'domains.ini', section: 'x.example', key: 'is not there' },
}

describe('text from outside', () => {
  const cases: [string, string, string][] = [
    ['a line end', 'a\r\n250 OK', 'a 250 OK'],
    ['NUL and escape sequences', 'a\0b\u001b[2J', 'a b [2J'],
    ['line and paragraph separators', 'a\u2028b\u2029c\u0085d', 'a b c d'],
    ['what turns text round', 'a\u202egpj.exe\u2066b', 'a gpj.exe b'],
    ['what nobody sees', 'pay\u200bpal\ufeff', 'pay pal '],
    ['lone surrogates', 'a\ud800b\udfff', 'a b '],
  ]
  for (const [what, text, safe] of cases) it(`loses ${what}`, () => assert.equal(clean(text), safe))

  it('keeps letters of every script', () => assert.equal(clean('Grüße, 你好, мир'), 'Grüße, 你好, мир'))

  it('is cut to octets, never inside a letter', () => {
    assert.equal(clean('ä'.repeat(300)), 'ä'.repeat(200))
    assert.equal(clean('aä', 2), 'a')
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.integer({ min: 1, max: 50 }), (text, length) => {
        const safe = clean(text.repeat(3), length)
        assert.ok(Buffer.byteLength(safe) <= length)
        assert.doesNotMatch(safe, /[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]/)
      }),
    )
  })
})

describe('a decision', () => {
  it('names its rule, with or without a key', () => {
    assert.equal(
      printRule({ file: 'acl.ini', section: 'never', key: '10.0.0.0/8' }),
      'acl.ini [never] 10.0.0.0/8',
    )
    assert.equal(printRule({ file: 'acl.ini', section: 'never', key: '' }), 'acl.ini [never]')
  })

  it('has an id that is the same in reply and log: of the connection, or with the number of the transaction', () => {
    const connection = connectionOf()
    assert.equal(replyId(connection), connection.uuid.slice(0, 8))
    connection.begin()
    assert.equal(replyId(connection), `${connection.uuid.slice(0, 8)}.1`)
  })

  const spoken: [string, Partial<Decision>, number, string][] = [
    ['550 denies', {}, 902, '5.7.1 Relaying denied'],
    ['4xx asks to come back', { code: 451, status: '4.3.0', text: 'Later' }, 903, '4.3.0 Later'],
    ['554 with close ends the connection', { code: 554, close: true }, 904, '5.7.1 Relaying denied'],
    [
      '421 with close does too',
      { code: 421, status: '4.7.0', text: 'Later', close: true },
      909,
      '4.7.0 Later',
    ],
  ]
  for (const [title, change, code, text] of spoken)
    it(`with ${title}`, () => {
      const { plugin, log } = pluginOf()
      const connection = connectionOf()
      const said: unknown[][] = []
      answer(plugin, (...args) => void said.push(args), connection, { ...denial, ...change })
      const id = connection.uuid.slice(0, 8)
      assert.deepEqual(said, [[code, new DSN(change.code ?? 550, `${text} (id ${id})`)]])
      const [, , , line] = connection.log[0] as [string, unknown, string, Record<string, string>]
      assert.equal(line['id'], id)
      assert.equal(line['rule'], 'domains.ini [x.example] is not there')
      assert.equal(line['outcome'], 'recipient.relay-denied')
      assert.deepEqual(log, [])
    })

  it('costs the same however many the transaction had before', async () => {
    const { plugin } = pluginOf()
    const works: number[] = []
    for (const count of [200, 800]) {
      const connection = connectionOf()
      const { results } = connection.begin()
      const accepted = { ...denial, outcome: 'recipient.accepted', code: 250 }
      works.push(
        await arrayWork(() => {
          for (let n = 0; n < count; n++) record(plugin, connection, n % 2 ? denial : accepted)
        }),
      )
      const { pass, fail } = results.get(plugin) ?? {}
      assert.deepEqual(
        [pass, fail].map((list) => (list as string[]).length),
        [count / 2, count / 2],
      )
    }
    assert.ok(works[1]! < 6 * works[0]!, `${works}`)
  })

  it('cannot be turned into two reply lines by what the client said', () => {
    const connection = connectionOf()
    const { plugin } = pluginOf()
    const said: unknown[][] = []
    const text = `<${'x'.repeat(70_000)}\r\n250 2.0.0 OK>`
    answer(plugin, (...args) => void said.push(args), connection, { ...denial, text: `\r\n250 OK ${text}` })
    const [[, { reply }]] = said as [[number, DSN]]
    assert.doesNotMatch(reply, /[\r\n]/)
    assert.ok(Buffer.byteLength(`550 ${reply}\r\n`) <= 512)
  })
})

describe('an error of our own', () => {
  const failing: [string, (this: Plugin) => void | Promise<void>][] = [
    [
      'that is thrown',
      () => {
        throw new Error('oops')
      },
    ],
    [
      'that comes later',
      async () => {
        await null
        throw new Error('oops')
      },
    ],
  ]
  for (const [how, handler] of failing)
    it(`${how} is 451 4.3.0: no refusal for good, and no acceptance`, async () => {
      const { plugin } = pluginOf()
      const connection = connectionOf()
      const said: unknown[][] = []
      await guarded(handler).call(plugin, (...args) => void said.push(args), connection)
      assert.equal(said.length, 1)
      const [code, { code: basic, reply }] = said[0] as [number, DSN]
      assert.deepEqual([code, basic], [903, 451])
      assert.match(reply, /^4\.3\.0 Local problem, try again later/)
    })
})
