import assert from 'node:assert/strict'
import { test } from 'node:test'
import { memo } from '../core/memo'

function counting(capacity?: number) {
  const made: string[] = []
  const find = memo((text) => {
    made.push(text)
    return `<${text}>`
  }, capacity)
  return { made, find }
}

test('What was asked before is not made again', () => {
  const { made, find } = counting()
  assert.deepEqual([find('a'), find('b'), find('a')], ['<a>', '<b>', '<a>'])
  assert.deepEqual(made, ['a', 'b'])
})

test('No more is kept than the capacity', () => {
  const { made, find } = counting(2)
  for (const text of ['a', 'b', 'c', 'c', 'a']) assert.equal(find(text), `<${text}>`)
  assert.deepEqual(made, ['a', 'b', 'c', 'a'])
})

test('A long text is not kept', () => {
  const { made, find } = counting()
  const long = 'x'.repeat(256)
  assert.deepEqual([find(long), find(long)], [`<${long}>`, `<${long}>`])
  assert.equal(made.length, 2)
})
