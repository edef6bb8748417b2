import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseRate, printRate } from '../core/limiter/rate'
import { fc } from './support/random'

test('limits are read and printed', () => {
  const window = (name: string, ms: number, limit: number) => ({ name, ms, limit })
  assert.deepEqual(parseRate('30/1m, 300/1h'), {
    windows: [window('1m', 60_000, 30), window('1h', 3_600_000, 300)],
  })
  assert.deepEqual(parseRate('5G/1d'), { windows: [window('1d', 86_400_000, 5 * 2 ** 30)] })
  assert.deepEqual(parseRate('20'), { windows: [], most: 20 })
  assert.deepEqual(parseRate('unlimited'), { windows: [] })
  assert.equal(printRate(parseRate(' 10 / 60m,5m/24h,7/90s ')), '10/1h, 5M/1d, 7/90s')
})

const errors: [string, string][] = [
  ['', '"" is not a limit, allowed: 30/1m, 300/1h or 20 or unlimited'],
  ['30/1m,', '"30/1m," is not a limit, allowed: 30/1m, 300/1h or 20 or unlimited'],
  ['30/1x', '"1x" is not a window, allowed: a whole number and s, m, h or d, as 1h'],
  ['30/500ms', '"500ms" is not a window, allowed: a whole number and s, m, h or d, as 1h'],
  ['30/0s', '"0s" is not a window, allowed: from 1s to 366d'],
  ['30/400d', '"400d" is not a window, allowed: from 1s to 366d'],
  ['0/1h', '"0" lets nothing through, allowed: 1 or more, or unlimited'],
  ['-1/1h', '"-1" is not a count, allowed: a whole number, with K, M or G for sizes'],
  ['1e9/1h', '"1e9" is not a count, allowed: a whole number, with K, M or G for sizes'],
  ['99999G/1d', '"99999G" is too large, allowed: up to 10000G'],
  ['30/1m/2h', '"30/1m/2h" is not a limit, allowed: a count, or a count/window as 30/1m'],
  ['30/1m, 20', '"20" has no window, allowed in a list: count/window as 30/1m'],
  ['30/60m, 20/1h', '"30/60m, 20/1h" has the window 1h twice'],
  ['enabled', '"enabled" is not a count, allowed: a whole number, with K, M or G for sizes'],
]

for (const [text, message] of errors) {
  test(`"${text}" is an error that says what is allowed`, () => {
    assert.throws(() => parseRate(text), { message })
  })
}

test('what is printed reads the same', () => {
  const item = fc.tuple(
    fc.integer({ min: 1, max: 2 ** 40 }),
    fc.integer({ min: 1, max: 8784 }),
    fc.constantFrom('m', 'h'),
  )
  fc.assert(
    fc.property(
      fc.uniqueArray(item, {
        minLength: 1,
        maxLength: 4,
        selector: ([, n, unit]) => n * (unit === 'h' ? 60 : 1),
      }),
      (items) => {
        const rate = parseRate(items.map(([limit, n, unit]) => `${limit}/${n}${unit}`).join(','))
        assert.deepEqual(parseRate(printRate(rate)), rate)
      },
    ),
  )
})
