// Who was refused, and until when: against a model that keeps everything.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { RefusalMemory } from '../core/haraka/refusal-memory'
import { fc } from './support/random'

const network = '{network:203.0.113.0/24}'

describe('the memory of refusals', () => {
  it('forgets an entry when its time is over', () => {
    let now = 0
    const memory = new RefusalMemory<string>(10, () => now)
    memory.set('a', network, 'first', 1000)
    memory.set('b', network, 'second', Number.POSITIVE_INFINITY)
    now = 999
    assert.equal(memory.get('a'), 'first')
    now = 1000
    assert.equal(memory.get('a'), undefined)
    now = 1e12
    assert.equal(memory.get('b'), 'second')
  })

  it('forgets all entries of a subject and no other, and takes new ones of it', () => {
    const memory = new RefusalMemory<number>(10, () => 0)
    memory.set('a', network, 1, 1000)
    memory.set('b', network, 2, 1000)
    memory.set('c', '{ip:203.0.113.9}', 3, 1000)
    memory.forget(network)
    memory.forget('{ip:192.0.2.1}')
    memory.set('b', network, 4, 1000)
    assert.deepEqual(
      ['a', 'b', 'c'].map((name) => memory.get(name)),
      [undefined, 4, 3],
    )
  })

  it('forgets the oldest first, also after tens of thousands', () => {
    const capacity = 20_000
    const memory = new RefusalMemory<number>(capacity, () => 0)
    for (let at = 0; at < 5 * capacity; at++) memory.set(`${at}`, `{ip:${at}}`, at, 1000)
    assert.deepEqual(memory.size, { entries: capacity, subjects: capacity })
    assert.equal(memory.get(`${4 * capacity - 1}`), undefined)
    assert.equal(memory.get(`${4 * capacity}`), 4 * capacity)
  })

  const name = fc.nat(11).map(String)
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ op: fc.constant('set' as const), name, ms: fc.nat(50) }) },
    { weight: 6, arbitrary: fc.record({ op: fc.constant('get' as const), name }) },
    { weight: 2, arbitrary: fc.record({ op: fc.constant('forget' as const), name }) },
    { weight: 3, arbitrary: fc.record({ op: fc.constant('wait' as const), ms: fc.nat(30) }) },
    { weight: 1, arbitrary: fc.record({ op: fc.constant('clear' as const) }) },
  )

  it('knows what was set last, is neither over nor forgotten, and is among the newest', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), fc.integer({ min: 1, max: 14 }), (steps, capacity) => {
        let now = 0
        const memory = new RefusalMemory<number>(capacity, () => now)
        // Newest last. Three names share a subject.
        let model: { name: string; tag: string; value: number; until: number }[] = []
        const tagOf = (of: string) => `{ip:${Number(of) % 4}}`
        const drop = (of: string) => {
          model = model.filter((each) => each.name !== of)
        }
        steps.forEach((step, value) => {
          if (step.op === 'wait') now += step.ms
          if (step.op === 'clear') {
            memory.clear()
            model = []
          }
          if (step.op === 'forget') {
            memory.forget(tagOf(step.name))
            for (const each of model) if (each.tag === tagOf(step.name)) each.until = Number.NEGATIVE_INFINITY
          }
          if (step.op === 'set') {
            memory.set(step.name, tagOf(step.name), value, step.ms)
            drop(step.name)
            if (model.length === capacity) model.shift()
            model.push({ name: step.name, tag: tagOf(step.name), value, until: now + step.ms })
          }
          if (step.op === 'get') {
            const known = model.find((each) => each.name === step.name)
            const isOver = known !== undefined && known.until <= now
            assert.equal(memory.get(step.name), isOver ? undefined : known?.value)
            if (isOver) drop(step.name)
          }
          const living = model.filter(({ until }) => until !== Number.NEGATIVE_INFINITY)
          assert.deepEqual(memory.size, {
            entries: model.length,
            subjects: new Set(living.map(({ tag }) => tag)).size,
          })
        })
      }),
      { numRuns: 500 },
    )
  })
})
