// When a state begins and ends, who is refused at which stage, and whether a message has room.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { KINDS, type Kind, type OverloadConfig, readOverload } from '../plugins/overload/config'
import {
  type Asking,
  fits,
  judge,
  type Level,
  type Measurements,
  nextLevel,
  nextStates,
  printSize,
  type States,
} from '../plugins/overload/policy'
import { changes } from '../plugins/overload/report'
import { fc } from './support/random'
import { readText } from './support/reading'

const config = (text: string): OverloadConfig => readText('overload.ini', text, readOverload).value
const usual = config('; nothing\n')
const G = 2 ** 30

const fine: Measurements = {
  disk: { free: 5 * G, total: 10 * G },
  inodes: { free: 900, total: 1000 },
  queue: { count: 10, atLeast: false },
  connections: 10,
  delay: 3,
  memory: G / 10,
}

const settle = (measured: Partial<Measurements>[], by = usual): States =>
  measured.reduce<States>((states, some) => nextStates(by, states, { ...fine, ...some }), {})

const levels = (states: States) =>
  Object.fromEntries(Object.entries(states).flatMap(([kind, { level }]) => (level ? [[kind, level]] : [])))

describe('a state', () => {
  it('begins above its mark and ends at 80 % of it, at each of its two levels, whatever happens between', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 2, noNaN: true })), (loads) => {
        let level: Level = 0
        const isOver = { mark: false, beyond: false }
        for (const load of loads) {
          level = nextLevel(level, load)
          // By the definition: over since it was above, until it was at 80 % of that.
          if (load > 1) isOver.mark = true
          if (load <= 0.8) isOver.mark = false
          if (load > 1.2) isOver.beyond = true
          if (load <= 0.96) isOver.beyond = false
          assert.equal(level, isOver.beyond ? 2 : isOver.mark ? 1 : 0, `at ${load} of ${loads}`)
        }
      }),
    )
  })

  it('does not change while the load stays between its end and its mark', () => {
    const between = fc.double({ min: 0.801, max: 1, noNaN: true })
    fc.assert(
      fc.property(fc.constantFrom<Level>(0, 1), fc.array(between), (level, loads) => {
        for (const load of loads) assert.equal(nextLevel(level, load), level)
      }),
    )
  })

  for (const [kind, steps] of [
    [
      'disk',
      [
        [{ disk: { free: G, total: 9 * G } }, 0],
        [{ disk: { free: G - 1, total: 9 * G } }, 1],
        [{ disk: { free: 1.24 * G, total: 9 * G } }, 1],
        [{ disk: { free: 1.25 * G, total: 9 * G } }, 0],
      ],
    ],
    [
      'disk',
      [
        [{ disk: { free: 0, total: 9 * G } }, 2],
        [{ disk: undefined }, 0],
      ],
    ],
    [
      'inodes',
      [
        [{ inodes: { free: 50, total: 1000 } }, 0],
        [{ inodes: { free: 49, total: 1000 } }, 1],
        [{ inodes: undefined }, 0],
      ],
    ],
    [
      'queue',
      [
        [{ queue: { count: 20_000, atLeast: false } }, 0],
        [{ queue: { count: 20_001, atLeast: true } }, 1],
        [{ queue: { count: 16_001, atLeast: false } }, 1],
        [{ queue: { count: 16_000, atLeast: false } }, 0],
      ],
    ],
    [
      'connections',
      [
        [{ connections: 1000 }, 0],
        [{ connections: 1001 }, 1],
        [{ connections: 1201 }, 2],
        [{ connections: 961 }, 2],
        [{ connections: 960 }, 1],
        [{ connections: 801 }, 1],
        [{ connections: 800 }, 0],
      ],
    ],
    [
      'delay',
      [
        [{ delay: 201 }, 1],
        [{ delay: 241 }, 2],
        [{ delay: 160 }, 0],
      ],
    ],
    [
      'memory',
      [
        [{ memory: 1.1 * G }, 1],
        [{ memory: 1.3 * G }, 2],
        [{ memory: 0.9 * G }, 1],
        [{ memory: 0.8 * G }, 0],
      ],
    ],
  ] as [Kind, [Partial<Measurements>, Level][]][])
    it(`of ${kind} goes ${steps.map(([, level]) => level).join(', ')}`, () => {
      for (const [index, [, level]] of steps.entries()) {
        const states = settle(steps.slice(0, index + 1).map(([measured]) => measured))
        assert.deepEqual(levels(states), level ? { [kind]: level } : {}, `step ${index}`)
      }
    })

  it('is not there for what is switched off or cannot be measured', () => {
    const all = Object.fromEntries(KINDS.map((kind) => [kind, undefined])) as OverloadConfig
    assert.deepEqual(nextStates(all, {}, { ...fine, connections: 1e9, memory: 1e12 }), {})
    const { disk, inodes, queue, ...rest } = settle([
      { disk: undefined, inodes: undefined, queue: undefined },
    ])
    assert.deepEqual([disk, inodes, queue], [undefined, undefined, undefined])
    assert.deepEqual(Object.keys(rest), ['connections', 'delay', 'memory'])
  })

  it('has a figure that an operator reads', () => {
    const figures = (by: OverloadConfig, measured: Partial<Measurements>) =>
      KINDS.map((kind) => settle([measured], by)[kind]?.figure)
    assert.deepEqual(
      figures(usual, {
        disk: { free: 410 * 2 ** 20, total: G },
        inodes: { free: 31, total: 1000 },
        queue: { count: 20_001, atLeast: true },
        connections: 1002,
        delay: 251.4,
        memory: 1.06 * G,
      }),
      [
        'disk 410M free (min 1G)',
        'inodes 3.1% free (min 5%)',
        'queue more than 20000 files (max 20000)',
        'connections 1002 (max 1000)',
        'delay 251ms (max 200ms)',
        'memory 1.1G (max 1G)',
      ],
    )
    const part = config('[disk]\nmin_free = 5%\nmin_free_inodes = 200\n')
    assert.deepEqual(figures(part, { disk: { free: G, total: 50 * G } }).slice(0, 2), [
      'disk 2.0% free (min 5%)',
      'inodes 900 free (min 200)',
    ])
    assert.deepEqual([0, 1023, 5 * 2 ** 20, 12.3 * 2 ** 20].map(printSize), ['0K', '1K', '5.0M', '12M'])
  })
})

describe('who is refused', () => {
  const DISK = ['disk', 'inodes', 'queue']
  const askings: Asking[] = (['connect', 'mail'] as const).flatMap((stage) =>
    [false, true].flatMap((isSubmission) =>
      [false, true].map((isKnown) => ({ stage, isSubmission, isKnown })),
    ),
  )
  for (const kind of KINDS)
    for (const level of [0, 1, 2] as const)
      for (const asking of askings) {
        const { stage, isSubmission, isKnown } = asking
        const isAsked = DISK.includes(kind) ? stage === 'mail' : (stage === 'mail') === isSubmission
        const isRefused = level > 0 && isAsked && (DISK.includes(kind) || !isKnown || level === 2)
        const who = `${isKnown ? 'a known client' : 'a stranger'} ${isSubmission ? 'on port 587' : 'on port 25'} at ${stage}`
        it(`${kind} at level ${level} ${isRefused ? 'refuses' : 'lets in'} ${who}`, () => {
          const decision = judge({ [kind]: { level, figure: `${kind} so much` } }, asking)
          assert.equal(decision !== undefined, isRefused)
          if (!decision) return
          const reply = `${decision.code} ${decision.status}${decision.close ? ', closing' : ''}`
          assert.equal(reply, DISK.includes(kind) ? '452 4.3.1' : '421 4.3.2, closing')
          assert.equal(decision.outcome, stage === 'connect' ? 'connection.overload' : 'message.overload')
          assert.equal(decision.detail, `${kind} so much`)
          assert.equal(decision.rule.file, 'overload.ini')
        })
      }

  it('nobody is told figures or folders of this server', () => {
    for (const kind of KINDS) {
      const decision = judge(
        { [kind]: { level: 2, figure: '/var 7' } },
        { stage: 'mail', isSubmission: true, isKnown: false },
      )
      assert.match(decision?.text ?? '', /^[A-Z][a-z ]+, try again later$/)
    }
  })
})

describe('a message has room', () => {
  const mark = config('[disk]\nmin_free = 100\n').disk!
  it('exactly where the mark stays free when it and all others are written', () => {
    const amount = fc.nat(1000)
    fc.assert(
      fc.property(amount, amount, amount, (free, need, others) => {
        assert.equal(fits(mark, { free, total: 5000 }, { need, others }), free - need - others >= 100)
      }),
    )
  })
  it('with a mark in percent, of the whole file system', () => {
    const part = config('[disk]\nmin_free = 10%\n').disk!
    const space = { free: 150, total: 1000 }
    assert.ok(fits(part, space, { need: 50, others: 0 }))
    assert.ok(!fits(part, space, { need: 50, others: 1 }))
  })
})

describe('the log', () => {
  const alone = { isMaster: false, isWorker: false }
  const over = (level: Level, figure = 'f'): States => ({
    connections: { level, figure },
    disk: { level, figure },
  })
  it('has one line for each change, and none while a state goes on', () => {
    assert.deepEqual(changes({}, over(0), alone), [])
    assert.deepEqual(changes(over(0), over(1, 'disk 1M'), alone), [
      'overload: disk 1M: mail is refused with 452',
      'overload: disk 1M: strangers are refused with 421',
    ])
    assert.deepEqual(changes(over(1), over(1, 'other figure'), alone), [])
    assert.deepEqual(changes(over(1), over(2), alone), ['overload: f: everybody is refused with 421'])
    assert.deepEqual(changes(over(2), over(1), alone), [
      'overload: f: [relay] clients and users may come again',
    ])
    assert.deepEqual(changes(over(2), over(0), alone), ['overload over: f', 'overload over: f'])
    assert.deepEqual(changes(over(1), {}, alone), [
      'overload over: disk is not looked at any more',
      'overload over: connections is not looked at any more',
    ])
  })
  it('tells of the disk once a server, and of the load of each worker', () => {
    assert.deepEqual(changes({}, over(1), { isMaster: true, isWorker: false }), [
      'overload: f: mail is refused with 452',
    ])
    assert.deepEqual(changes({}, over(1), { isMaster: false, isWorker: true }), [
      `overload: worker ${process.pid}: f: strangers are refused with 421`,
    ])
  })
})
