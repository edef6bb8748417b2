// What a next hop's answer says of a mailbox: unknown only where it speaks of the mailbox, to MAIL FROM:<>.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { noAnswer, type Reply } from '../core/next-hop/reply'
import { Breaker } from '../plugins/domains/callout/breaker'
import { TurnTable } from '../plugins/domains/callout/turn-table'
import type { Outcome } from '../plugins/domains/callout/turns'
import { mailboxState, printReply, unknownMailbox } from '../plugins/domains/policy/callout'

const reply = (code: number, status?: string): Reply => ({
  answered: true,
  code,
  ...(status && { status }),
  text: 'words',
  host: 'hop.example:25',
})

describe('an answer to RCPT', () => {
  const unknown: [number, string?][] = [
    [550],
    [551],
    [553],
    [550, '5.1.1'],
    [550, '5.1.6'],
    [550, '5.1.10'],
    [554, '5.1.1'],
    [551, '5.1.6'],
  ]
  for (const [code, status] of unknown) {
    test(`${code} ${status ?? 'without an enhanced code'} means an unknown mailbox`, () => {
      assert.equal(mailboxState(reply(code, status), true), 'unknown')
      assert.equal(mailboxState(reply(code, status), false), 'cannot tell', 'it may be about the sender')
      assert.equal(mailboxState({ ...reply(code, status), refusedSender: true }, true), 'cannot tell')
    })
  }

  test('no other code means one', () => {
    const speaksOfMailbox = new Set(unknown.map((each) => each.join(' ')))
    const statuses = [
      '5.1.0',
      '5.1.1',
      '5.1.2',
      '5.1.3',
      '5.1.6',
      '5.1.7',
      '5.1.8',
      '5.1.10',
      '5.2.1',
      '5.2.2',
    ]
    const others = ['5.3.0', '5.4.1', '5.5.1', '5.5.3', '5.7.0', '5.7.1', '5.7.26', '5.11.1', '5.1.11']
    for (let code = 400; code < 600; code++) {
      assert.equal(
        mailboxState(reply(code), true),
        speaksOfMailbox.has(`${code}`) ? 'unknown' : 'cannot tell',
      )
      if (code < 500) continue
      for (const status of [...statuses, ...others]) {
        const isOne = ['5.1.1', '5.1.6', '5.1.10'].includes(status)
        assert.equal(mailboxState(reply(code, status), true), isOne ? 'unknown' : 'cannot tell')
      }
    }
    for (const status of ['4.1.1', '4.2.1', '4.7.1'])
      assert.equal(mailboxState(reply(450, status), true), 'cannot tell')
  })

  test('no answer is none, and a yes is one to any sender', () => {
    assert.equal(mailboxState(noAnswer('dead'), true), 'cannot tell')
    for (const isNull of [true, false]) {
      assert.equal(mailboxState(reply(250, '2.1.5'), isNull), 'known')
      assert.equal(mailboxState(reply(251), isNull), 'known')
    }
  })
})

describe('the refusal of an unknown mailbox', () => {
  const domain = { file: 'domains.ini', section: 'box.test' } as Parameters<typeof unknownMailbox>[0]
  const cases: [string, number, string, string][] = [
    ['550 5.1.1 No such user', 550, '5.1.1', 'No such user'],
    ['553 5.1.10 gone', 553, '5.1.10', 'gone'],
    ['551 Not here', 551, '5.1.1', 'Not here'],
    ['550', 550, '5.1.1', '<x@box.test> is not known here'],
    // Whatever stands in Redis: a refusal stays one.
    ['250 2.1.5 fine', 550, '5.1.1', '<x@box.test> is not known here'],
    ['', 550, '5.1.1', '<x@box.test> is not known here'],
    ['5500 x', 550, '5.1.1', '<x@box.test> is not known here'],
  ]
  for (const [text, code, status, words] of cases) {
    test(`is in the next hop's words: "${text}"`, () => {
      const decision = unknownMailbox(domain, text, 'x@box.test')
      assert.deepEqual([decision.code, decision.status, decision.text], [code, status, words])
      assert.equal(decision.outcome, 'recipient.unknown')
      assert.deepEqual(decision.rule, { file: 'domains.ini', section: 'box.test', key: 'verify' })
    })
  }

  test('is kept as one line', () => {
    assert.equal(
      printReply({ code: 550, status: '5.1.1', text: 'No\r\nsuch\0user' }),
      '550 5.1.1 No such user',
    )
    assert.equal(printReply({ code: 550, text: '' }), '550')
  })
})

describe('a next hop that does not answer', () => {
  test('is left alone after three questions in a row, and then asked by one', () => {
    let time = 0
    const breaker = new Breaker(() => time, 20_000)
    for (let n = 0; n < 3; n++) {
      assert.equal(breaker.mayAsk('a'), true)
      breaker.failed('a')
    }
    assert.equal(breaker.mayAsk('a'), false)
    assert.equal(breaker.mayAsk('b'), true)
    time = 4_999
    assert.equal(breaker.rests('a'), true)
    time = 5_000
    assert.equal(breaker.rests('a'), false)
    assert.equal(breaker.mayAsk('a'), true)
    assert.equal(breaker.mayAsk('a'), false, 'the others wait for the first one')
    breaker.failed('a')
    time += 9_999
    assert.equal(breaker.mayAsk('a'), false, 'each rest is twice as long')
    time += 1
    assert.equal(breaker.mayAsk('a'), true)
    breaker.answered('a')
    assert.deepEqual([breaker.mayAsk('a'), breaker.mayAsk('a')], [true, true])
    breaker.failed('a')
    assert.equal(breaker.mayAsk('a'), true, 'one failure is none')
  })

  test('rests a minute at most', () => {
    let time = 0
    const breaker = new Breaker(() => time, 20_000)
    for (let n = 0; n < 20; n++) breaker.failed('a')
    time = 60_000
    assert.equal(breaker.mayAsk('a'), true)
  })
})

describe('the turns of workers', () => {
  const since = { known: 0, unknown: 0 }
  const known: Outcome = { answer: { state: 'known', asked: 5, reply: '250', nextHop: 'hop' } }
  const setUp = (longest?: number) => {
    const told: string[] = []
    const table = new TurnTable(({ worker, number }, outcome) => {
      told.push(`${worker}.${number} ${outcome ? JSON.stringify(outcome.answer?.state ?? 'none') : 'asks'}`)
    }, longest)
    let number = 0
    const request = (worker: number, name = 'x', after = since) =>
      table.request({ worker, number: ++number, name }, after)
    const heard = () => told.splice(0).join(', ')
    return { table, request, heard }
  }

  test('one asks, the others get what it heard', () => {
    const { table, request, heard } = setUp()
    request(1)
    request(2)
    request(2, 'y')
    request(3)
    assert.equal(heard(), '1.1 asks, 2.3 asks')
    table.done('x', known)
    assert.equal(heard(), '2.2 "known", 3.4 "known"')
    request(4)
    assert.equal(heard(), '4.5 "known"', 'who comes later is told, too')
    request(4, 'x', { known: 5, unknown: 5 })
    assert.equal(heard(), '4.6 asks', 'who knows as much himself asks')
  })

  test('what is no answer is told to those who wait, and to nobody later', () => {
    const { table, request, heard } = setUp()
    request(1)
    request(2)
    table.done('x', { reply: reply(450) })
    request(3)
    assert.equal(heard(), '1.1 asks, 2.2 "none", 3.3 asks')
  })

  test('a worker that dies, or passes, leaves its turn to the next one', () => {
    const { table, request, heard } = setUp()
    request(1)
    request(2)
    request(3)
    request(2, 'y')
    table.gone(1)
    assert.equal(heard(), '1.1 asks, 2.4 asks, 2.2 asks')
    table.done('x')
    assert.equal(heard(), '3.3 asks')
    table.gone(2)
    table.gone(3)
    request(4, 'x')
    request(4, 'y')
    assert.equal(heard(), '4.5 asks, 4.6 asks', 'nothing is left of the dead')
  })

  test('a worker that tells nothing loses its turn', (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const { table, request, heard } = setUp(1000)
    request(1)
    request(2)
    t.mock.timers.tick(1000)
    assert.equal(heard(), '1.1 asks, 2.2 asks')
    table.done('x', known)
    t.mock.timers.tick(5000)
    assert.equal(heard(), '')
  })
})
