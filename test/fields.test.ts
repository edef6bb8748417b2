import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Fields, fieldsOf, knownSections, parseDuration } from '../core/ini/fields'
import { readText } from './support/reading'

const read = <T>(text: string, reader: (fields: Fields) => T) =>
  readText('x.ini', `[main]\n${text}\n`, ({ sections, errors }) => {
    const fields = fieldsOf('x.ini', sections, 'main', errors)
    const value = reader(fields)
    fields.done()
    return value
  })

describe('a duration', () => {
  const good: [string, number][] = [
    ['250ms', 250],
    ['90s', 90_000],
    ['15m', 900_000],
    ['1h', 3_600_000],
    ['7d', 604_800_000],
  ]
  for (const [text, ms] of good) it(`${text} is ${ms} ms`, () => assert.equal(parseDuration(text), ms))

  for (const text of [
    '',
    '5',
    's',
    '1.5h',
    '-1s',
    '5 s',
    '1S',
    '1w',
    '0x1s',
    '1e3s',
    '٣s',
    '1h30m',
    '9'.repeat(20),
  ]) {
    it(`is not ${JSON.stringify(text)}`, () =>
      assert.throws(
        () => parseDuration(text),
        new Error(`"${text}" is not a duration; write 250ms, 90s, 15m, 1h or 7d`),
      ))
  }

  it('is not nothing', () =>
    assert.throws(() => parseDuration('0s'), new Error('a duration of nothing has no meaning here')))
})

describe('the keys of a section', () => {
  it('are read with their defaults where they are not there', () => {
    const { value, errors } = read('', (f) => [f.flag('a', true), f.duration('b', 5), f.text('c', 'x')])
    assert.deepEqual([value, errors], [[true, 5, 'x'], []])
  })

  for (const word of ['true', 'YES', 'ok', 'on', 'enabled', '1'])
    it(`are true when they say ${word}`, () =>
      assert.equal(read(`a = ${word}`, (f) => f.flag('a', false)).value, true))
  for (const word of ['false', 'No', 'off', 'disabled', '0'])
    it(`are false when they say ${word}`, () =>
      assert.equal(read(`a = ${word}`, (f) => f.flag('a', true)).value, false))

  it('take lists from several lines and from commas', () => {
    const { value, errors } = read('a[] = 1, 2\na[] = 3,,\n', (f) => f.list('a', Number))
    assert.deepEqual([value, errors], [[1, 2, 3], []])
  })

  it('are not fooled by names of JavaScript', () => {
    const { errors } = read('__proto__ = 1\nconstructor = 2\ntoString = 3', (f) => f.flag('a', true))
    assert.deepEqual(
      errors,
      ['__proto__', 'constructor', 'toString'].map(
        (key) => `x.ini [main] ${key}: is not a key of this section; known: a`,
      ),
    )
  })

  const bad: [string, (f: Fields) => unknown, string][] = [
    ['a = maybe', (f) => f.flag('a', true), 'x.ini [main] a: "maybe" is neither true nor false'],
    ['a =', (f) => f.flag('a', true), 'x.ini [main] a: "" is neither true nor false'],
    ['a', (f) => f.flag('a', true), 'x.ini [main] a: has no "="'],
    ['a = c', (f) => f.choice('a', 'x', ['x', 'y']), 'x.ini [main] a: "c" is not one of x, y'],
    [
      'a = 1\na = 2',
      (f) => f.list('a', Number),
      'x.ini [main] a: is given twice; if both are meant, write a[] =',
    ],
    ['a[] = 1\na[] = 2', (f) => f.text('a'), 'x.ini [main] a: is given twice and takes one value'],
    [
      'anti_spof = x',
      (f) => f.text('anti_spoof'),
      'x.ini [main] anti_spof: is not a key of this section; did you mean anti_spoof?',
    ],
    [
      'zzz = x',
      (f) => [f.text('a'), f.text('b')],
      'x.ini [main] zzz: is not a key of this section; known: a, b',
    ],
  ]
  for (const [text, reader, error] of bad)
    it(`${JSON.stringify(text)} is one error, in words for the operator`, () =>
      assert.deepEqual(read(text, reader).errors, [error]))

  it('mixed as key and key[] are given twice, in either order', () => {
    for (const text of ['a = 1\na[] = 2', 'a[] = 1\na = 2'])
      assert.deepEqual(read(text, (f) => f.list('a', Number)).errors, [
        'x.ini [main] a: is given twice; if both are meant, write a[] =',
      ])
  })
})

describe('an unknown section', () => {
  const sections = (text: string) =>
    readText('x.ini', text, ({ sections, errors }) =>
      knownSections('x.ini', sections, ['main', 'relay'], errors),
    ).errors
  it('is an error with the nearest name, or all of them', () => {
    assert.deepEqual(sections('[realy]\n'), [
      'x.ini [realy]: is not a section of this file; did you mean [relay]?',
    ])
    assert.deepEqual(sections('[zzzzz]\n'), [
      'x.ini [zzzzz]: is not a section of this file; known: [main] [relay]',
    ])
    assert.deepEqual(sections('[__proto__]\n'), [
      'x.ini [__proto__]: is not a section of this file; known: [main] [relay]',
    ])
    assert.deepEqual(sections('[relay]\n[main]\n'), [])
  })
})
