import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HostFailure, ReplyParser, toReply } from '../core/next-hop/reply'
import { fc } from './support/random'

const seed = Number(process.env['SEED'] ?? 5321)
const parse = (text: string) => new ReplyParser().push(Buffer.from(text))

test('a reply of several lines is one reply, with the enhanced code of its lines', () => {
  const [reply] = parse('550-5.1.1 No such\r\n550 5.1.1 user here\r\n')
  assert.ok(reply)
  assert.deepEqual(toReply(reply, 'mx:25'), {
    answered: true,
    code: 550,
    status: '5.1.1',
    text: 'No such user here',
    host: 'mx:25',
  })
})

test('a text that only looks like an enhanced code of another class is text', () => {
  const [reply] = parse('250 4.7.1 odd\r\n')
  assert.ok(reply)
  assert.equal(toReply(reply, '').status, undefined)
  assert.equal(toReply(reply, '').text, '4.7.1 odd')
})

test('a bare code, a bare LF and two replies at once are read', () => {
  assert.deepEqual(parse('250\r\n'), [{ code: 250, lines: [''] }])
  assert.deepEqual(parse('250 a\n354 b\r\n'), [
    { code: 250, lines: ['a'] },
    { code: 354, lines: ['b'] },
  ])
})

test('what is no reply, too long or endless is the failure of the host', () => {
  const wrong = [
    'HTTP/1.1 400 Bad Request\r\n',
    '25\r\n',
    '199 x\r\n',
    '600 x\r\n',
    '250_x\r\n',
    '250-a\r\n251 b\r\n',
  ]
  for (const text of wrong) assert.throws(() => parse(text), HostFailure, text)
  assert.throws(() => parse(`250 ${'x'.repeat(5_000)}\r\n`), /over-long/)
  assert.throws(() => parse('x'.repeat(5_000)), /over-long/)
  assert.throws(() => parse('250-more\r\n'.repeat(1_000)), /endless/)
})

test('replies do not depend on how their bytes are cut', () => {
  const code = fc.integer({ min: 200, max: 599 })
  const line = fc.string({ unit: 'grapheme', maxLength: 40 }).map((text) => text.replace(/[\r\n]/g, ''))
  const reply = fc.tuple(code, fc.array(line, { minLength: 1, maxLength: 4 }))
  fc.assert(
    fc.property(
      fc.array(reply, { maxLength: 5 }),
      fc.infiniteStream(fc.integer({ min: 1, max: 20 })),
      (replies, cuts) => {
        const bytes = Buffer.from(
          replies
            .flatMap(([code, lines]) =>
              lines.map((text, at) => `${code}${at === lines.length - 1 ? ' ' : '-'}${text}\r\n`),
            )
            .join(''),
        )
        const parser = new ReplyParser()
        const parsed = []
        for (let from = 0; from < bytes.length; ) {
          const size = cuts.next().value
          parsed.push(...parser.push(bytes.subarray(from, from + size)))
          from += size
        }
        assert.deepEqual(
          parsed,
          replies.map(([code, lines]) => ({ code, lines })),
        )
        assert.equal(parser.partial, false)
      },
    ),
    { seed },
  )
})
