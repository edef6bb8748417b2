// Refusals are held for some ticks and given together; the ticks are the test's own.
import assert from 'node:assert/strict'
import { beforeEach, describe, it } from 'node:test'
import { Hold, MOST_HELD } from '../core/haraka/hold'
import { fc } from './support/random'
import { ticksByHand } from './support/ticks'

describe('what is held', () => {
  let ticks: ReturnType<typeof ticksByHand>
  let hold: Hold
  let called: string[]
  const add = (name: string) => hold.add(() => void called.push(name))

  beforeEach(() => {
    ticks = ticksByHand()
    hold = new Hold(ticks.every)
    called = []
  })

  it('is called after eight ticks, together, and then no timer runs', () => {
    add('a')
    add('b')
    ticks.pass(4)
    add('c')
    ticks.pass(3)
    assert.deepEqual(called, [])
    ticks.pass(1)
    assert.deepEqual(called, ['a', 'b'])
    ticks.pass(4)
    assert.deepEqual(called, ['a', 'b', 'c'])
    assert.equal(ticks.running, 0)
    add('d')
    assert.equal(ticks.running, 1)
    ticks.pass(8)
    assert.deepEqual(called, ['a', 'b', 'c', 'd'])
  })

  it('is called at once where too many wait, until some of those were', () => {
    for (let at = 0; at < MOST_HELD; at++) add(`${at}`)
    add('one too many')
    assert.deepEqual(called, ['one too many'])
    ticks.pass(8)
    assert.equal(called.length, MOST_HELD + 1)
    add('later')
    assert.equal(called.length, MOST_HELD + 1)
  })

  it('is called once each, in order, eight ticks later, whenever it comes', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(3), { maxLength: 60 }), (counts) => {
        const time = ticksByHand()
        const held = new Hold(time.every)
        const due: number[] = []
        const done: number[] = []
        counts.forEach((count, now) => {
          for (let n = 0; n < count; n++) {
            due.push(now + 8)
            held.add(() => void done.push(passed))
          }
          passed = now + 1
          time.pass(1)
        })
        for (let more = 1; more <= 8; more++) {
          passed = counts.length + more
          time.pass(1)
        }
        assert.deepEqual(done, due)
        assert.equal(time.running, 0)
      }),
    )
  })
  let passed = 0
})
