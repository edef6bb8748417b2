// Recipient verification against real next hops that misbehave as told, with a clock that the test moves.
import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { Limiter } from '../core/limiter'
import { parseRate } from '../core/limiter/rate'
import type { Reply } from '../core/next-hop/reply'
import { closeRedis, openRedis } from '../core/redis/connection'
import type { RedisSettings } from '../core/redis/endpoint'
import { makeKeys } from '../core/redis/keys'
import { type CalloutOptions, Callouts } from '../plugins/domains/callout'
import { Later } from '../plugins/domains/callout/later'
import { Permits } from '../plugins/domains/callout/permits'
import { RecipientStore } from '../plugins/domains/callout/store'
import { LocalTurns, type Outcome } from '../plugins/domains/callout/turns'
import { newClient, routeTo } from './support/next-hop'
import { until } from './support/patience'
import { freePort } from './support/ports'
import { noRedis, RedisServer, startCluster } from './support/redis'
import { type Sink, type SinkOptions, startSink } from './support/sink'

const DAY = 86_400_000
const start = Date.UTC(2026, 10, 25)

/** What came of a question, in short: `known`, `550 5.1.1`, `451 no answer`, `over the limit`. */
function short({ answer, reply, isOverLimit }: Outcome): string {
  if (answer) return answer.state === 'known' ? 'known' : answer.reply
  if (isOverLimit || !reply) return 'over the limit'
  return reply.answered ? `${reply.code} ${reply.text}` : '451 no answer'
}

interface World {
  sink: Sink
  /** Verifies a local part at box.test. */
  verify(local: string): Promise<string>
  /** The recipients that were asked about, without the made-up ones. */
  asked(): string[]
  callouts: Callouts
  /** Moves the clock. */
  later(ms: number): void
  another(options?: Partial<CalloutOptions>): (local: string) => Promise<string>
}

async function setUp(
  t: TestContext,
  respond: SinkOptions['respond'],
  {
    questions = '1000/1s',
    redis,
    lmtp = false,
    ...more
  }: Partial<CalloutOptions> & {
    questions?: string
    redis?: { settings: RedisSettings }
    lmtp?: boolean
  } = {},
): Promise<World> {
  const sink = await startSink({ ...(respond && { respond }), lmtp })
  const route = routeTo([sink.address()])
  let time = start
  const limiter = new Limiter({ settings: noRedis, log: () => {} })
  const client = newClient()
  const shared = redis && { client: openRedis(redis.settings), keys: makeKeys('relay-guard:'), timeout: 5000 }
  const store = new RecipientStore({ redis: () => shared, isUp: () => true, onFailure: () => {} })
  if (shared) await until(() => store.isUp)
  const make = (options: Partial<CalloutOptions>) =>
    new Callouts({
      client,
      settings: () => ({ questions: parseRate(questions), cacheKnown: 7 * DAY, cacheUnknown: 3_600_000 }),
      store,
      limiter: () => limiter,
      clock: () => time,
      ...options,
    })
  const callouts = make(more)
  t.after(async () => {
    callouts.close()
    await client.closeAll()
    await limiter.close()
    if (shared) await closeRedis(shared.client)
    await sink.close()
  })
  const verifyWith = (which: Callouts) => async (local: string) =>
    short(
      await which.verify({ route, address: `${local}@box.test`, name: `${local.toLowerCase()}@box.test` }),
    )
  return {
    sink,
    callouts,
    verify: verifyWith(callouts),
    asked: () => sink.rcpts.filter((address) => !address.startsWith('recipient-check-')),
    later: (ms) => {
      time += ms
    },
    another: (options = {}) => verifyWith(make({ ...more, ...options })),
  }
}

/** A next hop that knows these. */
const knows =
  (...locals: string[]): SinkOptions['respond'] =>
  (stage, argument) =>
    stage === 'rcpt' && !locals.some((local) => argument.toLowerCase().startsWith(`to:<${local}@`))
      ? '550 5.1.1 No such user'
      : undefined

describe('what is known of a recipient', () => {
  test('is asked once and lasts as long as domains.ini says', async (t) => {
    const { verify, asked, later, sink, callouts } = await setUp(t, knows('anna'))
    for (let n = 0; n < 3; n++) {
      assert.equal(await verify('anna'), 'known')
      assert.equal(await verify('nobody'), '550 5.1.1 No such user')
    }
    assert.deepEqual(asked(), ['anna@box.test', 'nobody@box.test'])
    const cached = (hop: string) =>
      callouts.cached({ route: routeTo([hop]), address: '', name: 'nobody@box.test' })
    assert.equal((await cached(sink.address()))?.state, 'unknown')
    assert.equal(await cached('smtp://else.test'), undefined, 'another next hop has said nothing')
    later(3_599_999)
    await verify('nobody')
    assert.equal(asked().length, 2)
    later(1)
    await verify('nobody')
    assert.equal(asked().length, 3)
    assert.ok(sink.lines.every((line) => !/^DATA|^MAIL FROM:<.+>/.test(line)))
  })

  test('by many at once is asked once', async (t) => {
    const { verify, asked } = await setUp(t, knows('anna'))
    const said = await Promise.all(Array.from({ length: 50 }, (_, n) => verify(n % 2 ? 'anna' : 'Nobody')))
    assert.equal(said.filter((each) => each === 'known').length, 25)
    assert.deepEqual(asked().sort(), ['Nobody@box.test', 'anna@box.test'])
  })

  test('a known one never waits: it is asked about again in the background, and a refresh that fails keeps it', async (t) => {
    let mode = 'fine'
    const { verify, asked, later } = await setUp(t, (stage) => {
      if (stage !== 'rcpt' || mode === 'fine') return undefined
      return mode === 'defers' ? '450 4.2.0 Later' : '550 5.1.1 Gone'
    })
    assert.equal(await verify('anna'), 'known')
    /** Once more, and once more after each five minutes: a question that is under way may answer this one, too. */
    const refreshed = async () => {
      const before = asked().length
      await until(async () => {
        assert.equal(await verify('anna'), 'known')
        if (asked().length > before) return true
        later(300_000)
        return false
      })
    }
    later(DAY - 1)
    mode = 'defers'
    assert.equal(await verify('anna'), 'known')
    assert.equal(asked().length, 1)
    later(1)
    await refreshed()
    const before = asked().length
    for (let n = 0; n < 5; n++) assert.equal(await verify('anna'), 'known')
    assert.equal(asked().length, before, 'not at once again')
    later(300_000)
    await refreshed()
    later(4 * DAY)
    mode = 'gone'
    await until(async () => {
      later(300_000)
      return (await verify('anna')) === '550 5.1.1 Gone'
    })
  })

  test('is kept when the next hop is down, and ends in the end', async (t) => {
    const { verify, sink, later } = await setUp(t, knows('anna'))
    await verify('anna')
    await sink.close()
    later(6.9 * DAY)
    assert.equal(await verify('anna'), 'known')
    assert.equal(await verify('bert'), '451 no answer')
    later(0.2 * DAY)
    assert.equal(await verify('anna'), '451 no answer')
  })
})

describe('an answer that does not speak of the mailbox', () => {
  const answers: [string, SinkOptions['respond'], string][] = [
    ['is deferred', (stage) => (stage === 'rcpt' ? '452 4.2.2 Full' : undefined), '452 Full'],
    ['is refused by policy', (stage) => (stage === 'rcpt' ? '554 5.7.1 Listed' : undefined), '554 Listed'],
    ['demands AUTH', (stage) => (stage === 'mail' ? '530 5.7.0 Log in' : undefined), '530 Log in'],
    [
      'takes no null sender',
      (stage) => (stage === 'mail' ? '550 No null sender' : undefined),
      '550 No null sender',
    ],
    ['hangs up', (stage) => (stage === 'rcpt' ? 'drop' : undefined), '451 no answer'],
    ['closes', (stage) => (stage === 'rcpt' ? '421 4.3.2 Closing' : undefined), '451 no answer'],
  ]
  for (const [what, respond, expected] of answers) {
    test(`is never kept: ${what}`, async (t) => {
      const { verify, sink, callouts } = await setUp(t, respond)
      const route = routeTo([sink.address()])
      for (let n = 0; n < 2; n++) assert.equal(await verify('anna'), expected)
      assert.equal(await callouts.cached({ route, address: '', name: 'anna@box.test' }), undefined)
      assert.ok(sink.lines.filter((line) => /^MAIL/.test(line)).length >= 2, 'it was asked twice')
    })
  }
})

describe('a next hop of its own kind', () => {
  test('is slow: the question ends with its budget, and after three of them the next one is not asked', async (t) => {
    const hang: SinkOptions['respond'] = (stage) => (stage === 'rcpt' ? 'hang' : undefined)
    const { verify, sink } = await setUp(t, hang, { budget: 100 })
    for (const local of ['a', 'b', 'c']) assert.equal(await verify(local), '451 no answer')
    const before = sink.connections
    assert.equal(await verify('d'), '451 no answer')
    assert.equal(sink.connections, before)
  })

  test('is dead: who is known is known, the others are told to come again', async (t) => {
    const { callouts } = await setUp(t, undefined)
    const route = routeTo([`smtp://127.0.0.1:${await freePort()}`])
    for (const local of ['a', 'b', 'c', 'd']) {
      const subject = { route, address: `${local}@box.test`, name: `${local}@box.test` }
      assert.equal(short(await callouts.verify(subject)), '451 no answer')
    }
  })

  test('takes everybody: found out by one made-up recipient a day, and not asked any more', async (t) => {
    const { verify, sink, later } = await setUp(t, undefined)
    const madeUp = () =>
      sink.rcpts.filter((address) => /^recipient-check-[0-9a-f]{16}@box\.test$/.test(address))
    assert.equal(await verify('anna'), 'known')
    await until(() => madeUp().length === 1)
    await until(async () => {
      const before = sink.rcpts.length
      assert.equal(await verify(`somebody${before}`), 'known')
      return sink.rcpts.length === before
    })
    const before = sink.rcpts.length
    for (let n = 0; n < 100; n++) assert.equal(await verify(`x${n}`), 'known')
    assert.equal(sink.rcpts.length, before)
    later(DAY)
    assert.equal(await verify('y'), 'known')
    await until(() => madeUp().length === 2)
    assert.notEqual(madeUp()[0], madeUp()[1])
  })

  test('tells them apart: asked once a day by a made-up one', async (t) => {
    const { verify, sink, later } = await setUp(t, knows('anna', 'bert', 'carl'))
    const madeUp = () => sink.rcpts.filter((address) => address.startsWith('recipient-check-')).length
    await verify('anna')
    await until(() => madeUp() === 1)
    await verify('bert')
    assert.equal(await verify('nobody'), '550 5.1.1 No such user')
    later(DAY)
    await verify('carl')
    await until(() => madeUp() === 2)
  })

  test('counts refused commands: no session sees more than eight, and none is cut off', async (t) => {
    const refused = new Map<number, number>()
    const { verify, sink } = await setUp(t, (stage, argument, { number }) => {
      if (stage !== 'rcpt' || argument.startsWith('TO:<anna')) return undefined
      const count = (refused.get(number) ?? 0) + 1
      refused.set(number, count)
      return count > 20 ? '421 4.7.0 Too many errors' : '550 5.1.1 No such user'
    })
    for (let n = 0; n < 60; n++) assert.equal(await verify(`x${n}`), '550 5.1.1 No such user')
    assert.equal(Math.max(...refused.values()), 8)
    assert.equal(await verify('anna'), 'known')
    // Four may be open that have seen fewer.
    assert.ok(sink.connections <= 12, `${sink.connections} connections`)
    await until(() => sink.lines.filter((line) => line === 'QUIT').length >= 4)
  })

  test('counts commands that are no mail, as Exim: ten are not reached', async (t) => {
    const others = new Map<number, number>()
    const { verify, asked } = await setUp(t, (stage, argument, { number }) => {
      if (stage === 'rset') others.set(number, (others.get(number) ?? 0) + 1)
      return argument.startsWith('TO:<recipient-check') ? '550 5.1.1 No such user' : undefined
    })
    for (let n = 0; n < 100; n++) assert.equal(await verify(`x${n}`), 'known')
    assert.equal(asked().length, 100)
    assert.ok(Math.max(...others.values()) < 10)
  })

  test('speaks LMTP', async (t) => {
    const { verify, asked } = await setUp(t, knows('anna'), { lmtp: true })
    assert.equal(await verify('anna'), 'known')
    assert.equal(await verify('nobody'), '550 5.1.1 No such user')
    assert.equal(await verify('nobody'), '550 5.1.1 No such user')
    assert.equal(asked().length, 2)
  })

  test('greylists: the question is asked again by itself, and the client that comes again finds the answer', async (t) => {
    const seen = new Set<string>()
    const { verify, asked } = await setUp(
      t,
      (stage, argument) => {
        if (stage !== 'rcpt') return undefined
        const isNew = !seen.has(argument)
        seen.add(argument)
        if (isNew) return '450 4.7.1 Greylisted'
        return argument.startsWith('TO:<anna') ? undefined : '550 5.1.1 No such user'
      },
      { later: new Later([10, 10]) },
    )
    assert.equal(await verify('anna'), '450 Greylisted')
    assert.equal(await verify('nobody'), '450 Greylisted')
    await until(() => asked().length === 4)
    await until(async () => (await verify('anna')) === 'known' && (await verify('nobody')).startsWith('550'))
    assert.equal(asked().length, 4)
  })

  test('defers for ever: it is asked again a few times, and not by a flood', async (t) => {
    const { verify, sink } = await setUp(t, (stage) => (stage === 'rcpt' ? '450 4.2.0 Later' : undefined), {
      later: new Later([5, 5, 5], 10),
    })
    await Promise.all(Array.from({ length: 50 }, (_, n) => verify(`x${n}`)))
    await until(() => sink.rcpts.length === 50 + 10 * 3)
    await new Promise((resolve) => setTimeout(resolve, 50))
    assert.equal(sink.rcpts.length, 80)
  })
})

describe('questions = 20/1s', () => {
  test('bounds a dictionary attack, and known recipients are not held up', async (t) => {
    const { verify, asked } = await setUp(t, knows('anna'), { questions: '20/1s' })
    assert.equal(await verify('anna'), 'known')
    const begin = performance.now()
    const said = new Map<string, number>()
    let next = 0
    const attacker = async () => {
      for (let n = next++; n < 2_000; n = next++) {
        const answer = await verify(`x${n}`)
        said.set(answer, (said.get(answer) ?? 0) + 1)
        if (n % 100 === 0) assert.equal(await verify('anna'), 'known')
      }
    }
    await Promise.all(Array.from({ length: 50 }, attacker))
    const seconds = Math.ceil((performance.now() - begin) / 1000)
    const most = 20 * (seconds + 1)
    assert.ok(asked().length <= most, `${asked().length} questions in ${seconds} s`)
    assert.deepEqual([...said.keys()].sort(), ['550 5.1.1 No such user', 'over the limit'])
    assert.equal(said.get('550 5.1.1 No such user'), asked().length - 1)
  })
})

describe('recipients in Redis', { concurrency: false }, () => {
  test('are shared by all who ask, by address and next hop', async (t) => {
    const redis = await RedisServer.start()
    t.after(() => redis.stop())
    const { verify, asked, another, later, sink } = await setUp(t, knows('anna'), { redis })
    await verify('anna')
    await verify('nobody')
    await until(async () => ((await redis.run('DBSIZE')) as number) >= 3)
    const key = (name: string) => `relay-guard:recipient:{${name}}`
    const fields = (await redis.run('HGETALL', key('nobody@box.test'))) as string[]
    assert.deepEqual(fields, [
      ...['state', 'unknown', 'asked', String(start), 'reply', '550 5.1.1 No such user'],
      ...['next_hop', sink.address()],
    ])
    const ttl = (await redis.run('PTTL', key('nobody@box.test'))) as number
    assert.ok(ttl > 3_500_000 && ttl <= 3_600_000, `${ttl}`)
    assert.ok(((await redis.run('PTTL', key('anna@box.test'))) as number) > 6.9 * DAY)
    assert.equal((await redis.run('HGET', key('box.test'), 'state')) as string, 'unknown', 'no catch-all')
    const other = another()
    assert.equal(await other('anna'), 'known')
    assert.equal(await other('nobody'), '550 5.1.1 No such user')
    assert.equal(asked().length, 2)
    // Of another next hop, or unreadable: as if it were not there.
    await redis.run(
      'HSET',
      key('carl@box.test'),
      'state',
      'known',
      'asked',
      start,
      'reply',
      '250',
      'next_hop',
      'smtp://else.test:25',
    )
    await redis.run(
      'HSET',
      key('dora@box.test'),
      'state',
      'known',
      'asked',
      'never',
      'next_hop',
      sink.address(),
    )
    await redis.run('SET', key('emil@box.test'), 'x')
    for (const local of ['carl', 'dora', 'emil']) assert.equal(await other(local), '550 5.1.1 No such user')
    // Deleted by hand: asked again within a minute.
    await redis.run('DEL', key('nobody@box.test'))
    assert.equal(await verify('nobody'), '550 5.1.1 No such user')
    assert.equal(asked().length, 5)
    later(60_000)
    await verify('nobody')
    assert.equal(asked().length, 6)
  })

  test('may go away, be emptied and come back: what is known here is known', async (t) => {
    const redis = await RedisServer.start()
    t.after(() => redis.stop())
    const { verify, asked, later } = await setUp(t, knows('anna', 'bert'), { redis })
    await verify('anna')
    await verify('nobody')
    await redis.run('FLUSHALL')
    assert.equal(await verify('anna'), 'known')
    assert.equal(await verify('nobody'), '550 5.1.1 No such user')
    await redis.kill()
    later(120_000)
    assert.equal(await verify('anna'), 'known')
    assert.equal(await verify('nobody'), '550 5.1.1 No such user')
    assert.equal(asked().length, 2)
    assert.equal(await verify('bert'), 'known')
    await redis.up()
    assert.equal(await verify('anna'), 'known')
  })
})

test('recipients are in a Cluster, too', async (t) => {
  const { nodes, settings } = await startCluster()
  t.after(() => Promise.all(nodes.map((node) => node.stop())))
  const { verify, asked, another } = await setUp(t, knows('anna'), { redis: { settings } })
  const locals = Array.from({ length: 20 }, (_, n) => (n ? `x${n}` : 'anna'))
  for (const local of locals) await verify(local)
  const size = async () => {
    const sizes = await Promise.all(nodes.map((node) => node.run('DBSIZE')))
    return sizes.reduce((sum: number, each) => sum + Number(each), 0)
  }
  await until(async () => (await size()) === locals.length + 1, 'one key for each, and one for the domain')
  const other = another()
  for (const local of locals)
    assert.equal(await other(local), local === 'anna' ? 'known' : '550 5.1.1 No such user')
  assert.equal(asked().length, locals.length)
})

describe('what mail by other senders teaches', () => {
  const answer = (code: number, status?: string): Reply => ({
    answered: true,
    code,
    ...(status && { status }),
    text: 'words',
    host: 'hop',
  })
  test('nobody can make a known recipient unknown, nor forgotten, by how he writes', async (t) => {
    const { callouts, sink } = await setUp(t, undefined)
    const subject = { route: routeTo([sink.address()]), address: 'anna@box.test', name: 'anna@box.test' }
    const state = async () => (await callouts.cached(subject))?.state
    callouts.learn(subject, answer(250, '2.1.5'), false)
    const provoked = [
      answer(550),
      answer(550, '5.7.1'),
      answer(553),
      answer(554, '5.7.1'),
      answer(450, '4.7.1'),
    ]
    for (const reply of provoked) callouts.learn(subject, reply, false)
    for (const reply of provoked) callouts.learn(subject, { ...reply, refusedSender: true }, true)
    assert.equal(await state(), 'known')
    // This one says that he is gone; to be asked, and not to be refused by us.
    callouts.learn(subject, answer(550, '5.1.1'), false)
    assert.equal(await state(), undefined)
    callouts.learn(subject, answer(550), true)
    assert.equal(await state(), 'unknown')
    callouts.learn(subject, answer(250), false)
    assert.equal(await state(), 'known')
  })
})

describe('permits', () => {
  const limit = parseRate('2/1h')
  const setUpPermits = (t: TestContext) => {
    const limiter = new Limiter({ settings: noRedis, log: () => {} })
    t.after(() => limiter.close())
    return new Permits(() => limiter)
  }

  for (const isLate of [false, true])
    test(`that come back ${isLate ? 'later' : 'at once'} go to who waits; when none can come back nobody waits`, async (t) => {
      const permits = setUpPermits(t)
      const [a, b] = [await permits.take('hop', limit), await permits.take('hop', limit)]
      const heard: string[] = []
      const wait = async (name: string) => {
        const permit = await permits.takeOrWait('hop', limit, 60_000)
        heard.push(`${name} ${permit ? 'may' : 'may not'}`)
        return permit
      }
      const waiting = ['c', 'd', 'e'].map(wait)
      // Before or after they have found that there is none: both must do.
      if (isLate) await new Promise((resolve) => setTimeout(resolve, 20))
      a?.giveBack()
      const first = await Promise.race(waiting)
      assert.equal(heard.length, 1)
      assert.match(heard[0] ?? '', / may$/)
      b?.spend()
      first?.spend()
      await Promise.all(waiting)
      assert.equal(heard.filter((each) => each.endsWith('may not')).length, 2)
      assert.equal(await permits.takeOrWait('hop', limit, 60_000), undefined)
      assert.notEqual(await permits.takeOrWait('other', limit, 60_000), undefined)
    })

  test('a wait ends with its time', async (t) => {
    const permits = setUpPermits(t)
    await permits.take('hop', limit)
    await permits.take('hop', limit)
    assert.equal(await permits.takeOrWait('hop', limit, 20), undefined)
  })

  test('many recipients that the next hop takes pass by two permits', async (t) => {
    const permits = setUpPermits(t)
    let most = 0
    let underWay = 0
    await Promise.all(
      Array.from({ length: 300 }, async () => {
        const permit = await permits.takeOrWait('hop', limit, 60_000)
        assert.ok(permit)
        most = Math.max(most, ++underWay)
        await new Promise((resolve) => setImmediate(resolve))
        underWay--
        permit.giveBack()
      }),
    )
    assert.ok(most <= 2)
  })
})

test('without Redis the workers of a host ask once, and a refresh asks once', async (t) => {
  const shared = new LocalTurns()
  const { asked, another, later } = await setUp(t, knows('anna'))
  const workers = Array.from({ length: 4 }, () => another({ shared }))
  const said = await Promise.all(
    workers.flatMap((verify) => [verify('anna'), verify('anna'), verify('nobody')]),
  )
  assert.equal(said.filter((each) => each === 'known').length, 8)
  assert.equal(asked().length, 2)
  later(DAY)
  for (const verify of workers) await verify('anna')
  await until(() => asked().length > 2)
  assert.equal(await workers[0]!('anna'), 'known')
})
