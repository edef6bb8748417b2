// The contract of a limiter's store, step by step with a given clock. Each store's test calls it.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type Answer,
  blockReason,
  type Charge,
  type Lease,
  type Step,
  type Store,
} from '../../core/limiter/contract'
import { parseRate } from '../../core/limiter/rate'
import { stepInParts } from '../../core/limiter/split-step'

/** A moment that begins a bucket of every window used here. */
export const START = 1_800_000_000_000

export const charge = (limit: string, more: Partial<Charge> = {}): Charge => ({
  what: 'messages',
  scope: 'ip',
  subject: '203.0.113.9',
  cost: 1,
  limit: parseRate(limit),
  ...more,
})

export const lease = (id: string, limit: number, more: Partial<Lease> = {}): Lease => ({
  scope: 'ip',
  subject: '203.0.113.9',
  id: `host/1/${id}`,
  limit,
  ...more,
})

export const step = (charges: Charge[], more: Partial<Step> = {}): Step => ({
  op: 'check',
  charges,
  leases: [],
  by: 'host/1',
  ...more,
})

/** All that is counted, under the names of limits.ini, and what the limiter keeps beside it. */
export const WHATS = [
  'connections',
  'messages',
  'recipients',
  'bytes',
  'failed logins',
  'refused recipients',
  'logins',
]

/** Tests of one store. `make` gives an empty one, `kept` says how many windows of counters it holds. */
export function testStore<S extends Store>(
  name: string,
  make: () => Promise<S>,
  kept: (store: S) => Promise<number>,
): void {
  const it = (title: string, body: (store: S) => Promise<void>) =>
    test(`${name}: ${title}`, async () => body(await make()))

  /** Checks charges `after` ms from START. */
  const check = (store: Store, after: number, ...charges: Charge[]): Promise<Answer> =>
    store.step(step(charges), START + after)

  it('lets exactly the limit through and says when the next one may come', async (store) => {
    for (let used = 1; used <= 3; used++) {
      const { allowed, at, states, slots, blocks } = await check(store, 100, charge('3/1m'))
      assert.deepEqual(
        { allowed, at, slots, blocks },
        { allowed: true, at: START + 100, slots: [], blocks: [] },
      )
      assert.deepEqual(states, [{ refused: false, used, limit: 3, window: '1m', retryAfter: 0 }])
    }
    const { allowed, states } = await check(store, 500, charge('3/1m'))
    assert.equal(allowed, false)
    // The bucket they were charged to lasts 6 s, and leaves the window after ten more.
    assert.deepEqual(states, [{ refused: true, used: 3, limit: 3, window: '1m', retryAfter: 66_000 - 500 }])
    assert.equal((await check(store, 65_999, charge('3/1m'))).allowed, false)
    assert.equal((await check(store, 66_000, charge('3/1m'))).allowed, true)
  })

  it('waits only for as many buckets as the cost needs', async (store) => {
    await check(store, 0, charge('10/1m', { cost: 4 }))
    await check(store, 12_000, charge('10/1m', { cost: 6 }))
    const after = async (cost: number) =>
      (await check(store, 20_000, charge('10/1m', { cost }))).states[0]?.retryAfter
    assert.deepEqual(
      [await after(4), await after(5), await after(10), await after(11)],
      [46_000, 58_000, 58_000, -1],
    )
    assert.equal((await check(store, 66_000, charge('10/1m', { cost: 4 }))).allowed, true)
  })

  it('refuses a first request that costs more than the whole limit, for ever', async (store) => {
    const { allowed, states } = await check(store, 0, charge('1000/1h', { what: 'bytes', cost: 5_000_000 }))
    assert.equal(allowed, false)
    assert.deepEqual(states, [{ refused: true, used: 0, limit: 1000, window: '1h', retryAfter: -1 }])
  })

  it('counts bytes exactly, beyond 32 bits', async (store) => {
    const bytes = (cost: number) => charge('50G/1d', { what: 'bytes', cost })
    await check(store, 0, bytes(50 * 2 ** 30 - 5_000_001))
    assert.equal((await check(store, 9_000_000, bytes(5_000_002))).allowed, false)
    const { allowed, states } = await check(store, 9_000_001, bytes(5_000_001))
    assert.deepEqual([allowed, states[0]?.used], [true, 50 * 2 ** 30])
  })

  it('holds all windows of a limit and names the one that takes longest', async (store) => {
    const limit = '2/1m, 3/1h'
    await check(store, 0, charge(limit))
    await check(store, 0, charge(limit))
    assert.deepEqual((await check(store, 0, charge(limit))).states[0], {
      refused: true,
      used: 2,
      limit: 2,
      window: '1m',
      retryAfter: 66_000,
    })
    await check(store, 66_000, charge(limit))
    assert.deepEqual((await check(store, 67_000, charge(limit))).states[0], {
      refused: true,
      used: 3,
      limit: 3,
      window: '1h',
      retryAfter: 3_960_000 - 67_000,
    })
  })

  it('charges nothing anywhere when one counter refuses', async (store) => {
    const user = charge('2/1m', { scope: 'user', subject: 'bob' })
    const ip = charge('9/1m')
    const shadow = charge('9/1m', { what: 'recipients', shadow: true })
    await check(store, 0, user)
    await check(store, 0, user)
    const { allowed, states } = await check(store, 0, ip, user, shadow)
    assert.deepEqual([allowed, ...states.map(({ used }) => used)], [false, 0, 2, 0])
    const { states: after } = await store.step(step([ip, user, shadow], { op: 'dry-run' }), START)
    assert.deepEqual(
      after.map(({ used, refused }) => [used, refused]),
      [
        [0, false],
        [2, true],
        [0, false],
      ],
    )
  })

  it('counts and reports a shadow charge, which never refuses', async (store) => {
    for (const refused of [false, true, true]) {
      const { allowed, states } = await check(store, 0, charge('1/1m', { shadow: true, block: 1000 }))
      assert.deepEqual([allowed, states[0]?.refused], [true, refused])
    }
    const { states, blocks } = await store.step(step([charge('1/1m')], { op: 'dry-run' }), START)
    assert.deepEqual([states[0]?.used, blocks], [3, []])
  })

  it('asks for room without charging it when a charge is check-only', async (store) => {
    const failed = charge('2/1m', { what: 'failed logins', checkOnly: true })
    for (let i = 0; i < 5; i++) assert.equal((await check(store, 0, failed)).allowed, true)
    await store.step(step([{ ...failed, cost: 2 }], { op: 'charge' }), START)
    assert.equal((await check(store, 1, failed)).allowed, false)
  })

  it('counts beyond the limit what is charged without asking', async (store) => {
    const bytes = charge('100/1m', { what: 'bytes', cost: 150 })
    const { allowed, states } = await store.step(step([bytes], { op: 'charge' }), START)
    assert.equal(allowed, true)
    assert.deepEqual(states, [{ refused: true, used: 150, limit: 100, window: '1m', retryAfter: 0 }])
  })

  it('blocks a subject that goes over, for everything, until the block ends', async (store) => {
    const limited = charge('1/1s', { block: 600_000 })
    await check(store, 0, limited)
    await check(store, 10, limited)
    const other = charge('9/1m', { what: 'recipients' })
    const { allowed, states, blocks } = await check(store, 2000, other)
    assert.deepEqual([allowed, states[0]?.refused], [false, false])
    assert.deepEqual(blocks, [
      {
        scope: 'ip',
        subject: '203.0.113.9',
        reason: 'too many messages',
        since: START + 10,
        until: START + 600_010,
        by: 'host/1',
      },
    ])
    assert.equal((await check(store, 600_009, charge('unlimited'))).allowed, false)
    assert.equal((await check(store, 600_010, other)).allowed, true)
  })

  it('blocks and unblocks at the word of an operator, and never shortens that block', async (store) => {
    const until = START + 86_400_000
    const block = { scope: 'user', subject: 'bob', reason: 'stolen', since: START, until, by: 'admin' }
    await store.block(block, START)
    const bob = charge('1/1s', { scope: 'user', subject: 'bob', block: 1000 })
    await store.step(step([bob, bob], { op: 'charge' }), START)
    await store.step(step([bob], { op: 'charge' }), START)
    assert.deepEqual((await check(store, 10, bob)).blocks, [block])
    await store.unblock(bob)
    assert.equal((await check(store, 2000, bob)).allowed, true)
  })

  for (const scope of ['ip', 'network', 'user', 'sender', 'user network']) {
    it(`forgets on reset all that was counted of one ${scope}, and of nobody else`, async (store) => {
      const names = ['a', 'ab', 'a*', '[a]', 'a:b', '{a}', 'A b', 'x'.repeat(300)]
      const of = (subject: string) =>
        WHATS.map((what) => charge('1/1h, 9/1d', { what, scope, subject, block: 0 }))
      for (const subject of names) await check(store, 0, ...of(subject))
      await check(store, 0, charge('1/1h', { scope: 'recipient', subject: 'a' }))
      const before = await kept(store)
      for (const [index, subject] of names.entries()) {
        await store.reset({ scope, subject })
        assert.equal(await kept(store), before - 2 * WHATS.length * (index + 1), subject)
        for (const one of of(subject)) assert.equal((await check(store, 0, one)).allowed, true, one.what)
        await store.reset({ scope, subject })
      }
      assert.equal(await kept(store), 1)
    })
  }

  for (const what of WHATS) {
    it(`blocks who has too many ${what}, and unblocks at the word of an operator`, async (store) => {
      const counted = charge('1/1h', { what, block: 60_000 })
      await store.step(step([counted], { op: 'charge' }), START)
      const over = await check(store, 1, { ...counted, checkOnly: true })
      assert.deepEqual([over.allowed, over.states[0]?.refused, over.blocks], [false, true, []])
      const other = charge('9/1h', { what: what === 'messages' ? 'bytes' : 'messages' })
      const { allowed, blocks } = await check(store, 2, other)
      assert.deepEqual([allowed, blocks.map(({ reason }) => reason)], [false, [blockReason(what)]])
      await store.reset(counted)
      assert.equal((await check(store, 3, other)).allowed, false, 'a block stays')
      await store.unblock(counted)
      assert.equal((await check(store, 4, other)).allowed, true)
      assert.equal((await check(store, 5, counted)).allowed, true)
    })
  }

  it('keeps nothing of a counter that is given back whole, or refused before it held anything', async (store) => {
    const asked = charge('3/1m, 5/1h', { scope: 'recipient', subject: 'guessed@ours.test', cost: 2 })
    for (const subject of ['guessed@ours.test', 'other@ours.test']) {
      await check(store, 0, { ...asked, subject })
      await store.step(step([{ ...asked, subject }], { op: 'refund', at: START }), START + 10)
    }
    assert.equal(await kept(store), 0)
    assert.equal((await check(store, 20, { ...asked, cost: 4 })).states[0]?.retryAfter, -1)
    assert.equal((await check(store, 20, { ...asked, cost: 0 })).allowed, true)
    await store.step(step([{ ...asked, cost: 0 }], { op: 'charge' }), START + 20)
    assert.equal(await kept(store), 0)
    await check(store, 30, asked)
    await store.step(step([{ ...asked, cost: 1 }], { op: 'refund', at: START + 30 }), START + 40)
    assert.equal(await kept(store), 2)
  })

  for (const count of [1, 7999, 8200, 50_000]) {
    it(`takes a message to ${count} domains in parts, all or nothing`, async (store) => {
      const to = Array.from({ length: count }, (_, i) =>
        charge('9/1h', { what: 'bytes', scope: 'recipient domain', subject: `d${i}.test` }),
      )
      const full = charge('1/1h')
      await check(store, 0, full)
      const refused = await stepInParts(store, step([...to, full]), START)
      assert.deepEqual([refused.allowed, refused.states.length], [false, count + 1])
      assert.deepEqual(refused.states.pop(), {
        refused: true,
        used: 1,
        limit: 1,
        window: '1h',
        retryAfter: 3_960_000,
      })
      const others = refused.states.map((state) => `${state.refused} ${state.used} of ${state.limit}`)
      assert.deepEqual([...new Set(others)], ['false 0 of 9'])
      assert.equal(await kept(store), 1)
      const { allowed, states } = await stepInParts(store, step(to), START)
      assert.deepEqual([allowed, ...new Set(states.map(({ used }) => used))], [true, 1])
      assert.equal(await kept(store), count + 1)
      await stepInParts(store, step(to, { op: 'refund', at: START }), START)
      assert.equal(await kept(store), 1)
    })
  }

  it('takes so many domains in one piece, too', async (store) => {
    const to = Array.from({ length: 8200 }, (_, i) => charge('9/1h', { subject: `d${i}.test` }))
    assert.equal((await store.step(step(to), START)).allowed, true)
    assert.equal(await kept(store), 8200)
  })

  it('gives back to the bucket that was charged', async (store) => {
    await check(store, 0, charge('10/1m', { cost: 3 }))
    await check(store, 30_000, charge('10/1m', { cost: 7 }))
    const back = step([charge('10/1m', { cost: 3 })], { op: 'refund', at: START })
    assert.equal((await store.step(back, START + 31_000)).states[0]?.used, 7)
    await check(store, 32_000, charge('10/1m', { cost: 3 }))
    // All 10 are in the bucket that leaves at 96 s.
    assert.equal((await check(store, 95_999, charge('10/1m'))).allowed, false)
    assert.equal((await check(store, 96_000, charge('10/1m', { cost: 10 }))).allowed, true)
    // Given back twice, or too late: never below zero, and nothing of another bucket.
    await store.step(back, START + 96_000)
    assert.equal((await check(store, 96_000, charge('10/1m'))).allowed, false)
  })

  it('keeps the history when a limit changes, and starts anew with another window', async (store) => {
    await check(store, 0, charge('10/1m', { cost: 8 }))
    assert.equal((await check(store, 0, charge('5/1m'))).allowed, false)
    assert.equal((await check(store, 0, charge('9/1m'))).allowed, true)
    assert.equal((await check(store, 0, charge('9/2m', { cost: 9 }))).allowed, true)
  })

  it('neither forgets nor counts twice when the clock goes back', async (store) => {
    await check(store, 0, charge('10/1m', { cost: 6 }))
    await check(store, 7_000, charge('10/1m', { cost: 4 }))
    const back = -3_600_000
    assert.equal((await check(store, back, charge('10/1m'))).states[0]?.used, 10)
    assert.equal((await check(store, back, charge('10/1m'))).allowed, false)
    const charged = await store.step(step([charge('10/1m')], { op: 'charge' }), START + back)
    assert.equal(charged.states[0]?.used, 11)
    assert.equal((await check(store, back + 66_000, charge('10/1m', { cost: 10 }))).allowed, true)
  })

  it('charges a counter named twice in one step once', async (store) => {
    const { states } = await check(store, 0, charge('3/1m'), charge('2/1m'))
    assert.deepEqual(
      states.map(({ used }) => used),
      [1, 1],
    )
    await check(store, 0, charge('3/1m'), charge('2/1m'))
    assert.equal((await check(store, 0, charge('3/1m'), charge('2/1m'))).allowed, false)
    assert.equal((await check(store, 0, charge('3/1m'))).allowed, true)
  })

  it('gives out as many leases as the limit, together with the charges, all or nothing', async (store) => {
    const open = (id: string, after: number, limit = '9/1m') =>
      store.step(step([charge(limit)], { leases: [lease(id, 2)] }), START + after)
    assert.deepEqual((await open('a', 0)).slots, [{ refused: false, used: 0 }])
    assert.equal((await open('b', 0)).allowed, true)
    const third = await open('c', 0)
    assert.deepEqual(
      [third.allowed, third.slots, third.states[0]?.used],
      [false, [{ refused: true, used: 2 }], 2],
    )
    assert.equal((await open('b', 0)).allowed, true, 'the same connection again')
    await store.release([lease('a', 2)])
    assert.equal((await open('d', 0, '1/1m')).allowed, false, 'the rate refuses')
    assert.equal((await open('c', 0)).allowed, true)
  })

  it('ends a lease after 60 s without a heartbeat, and takes back one that was lost', async (store) => {
    const open = (id: string, after: number) =>
      store.step(step([], { leases: [lease(id, 1)] }), START + after)
    await open('a', 0)
    await store.renew([lease('a', 1)], START + 40_000)
    assert.equal((await open('b', 99_999)).allowed, false)
    assert.equal((await open('b', 100_000)).allowed, true)
    await store.renew([lease('lost', 1)], START + 100_000)
    await store.release([lease('b', 1)])
    assert.equal((await open('c', 100_001)).allowed, false)
  })

  it('keeps names apart that strangers choose', async (store) => {
    const names = [
      '',
      '__proto__',
      'constructor',
      '}',
      '{ip:203.0.113.9}',
      'ip:203.0.113.9',
      'a b',
      'x'.repeat(65_536),
    ]
    for (const subject of names)
      assert.equal((await check(store, 0, charge('1/1m', { subject }))).allowed, true)
    for (const subject of names)
      assert.equal((await check(store, 0, charge('1/1m', { subject }))).allowed, false)
    assert.equal((await check(store, 0, charge('1/1m', { subject: '__PROTO__' }))).allowed, false)
  })
}
