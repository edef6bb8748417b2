// Who stays at 85 % of a limit is never refused, however many workers hold something of it in advance.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Redis } from 'ioredis'
import type { Charge } from '../core/limiter/contract'
import { MemoryStore } from '../core/limiter/memory-store'
import { charge, START, step } from './support/limiter-contract'
import { pick, randomFrom, seed } from './support/random'
import { RedisServer } from './support/redis'
import { World } from './support/virtual-workers'

let server: RedisServer
let redis: Redis

before(async () => {
  server = await RedisServer.start()
  redis = server.client()
  await redis.ping()
})
after(async () => {
  redis.disconnect()
  await server.stop()
})

interface Sent {
  at: number
  charge: Charge
}

/** What is sent at 85 % of the limit, one after the other: each waits for as long as the one before has cost. */
function steady(each: Charge, costs: readonly number[], windows: number, random: () => number): Sent[] {
  const [{ ms = 0, limit = 0 } = {}] = each.limit.windows
  const sent: Sent[] = []
  for (let at = 0; at < windows * ms; ) {
    const cost = pick(costs, random)
    sent.push({ at: Math.ceil(at), charge: { ...each, cost } })
    at += (cost / (0.85 * limit)) * ms
  }
  return sent
}

/** The same in bursts: of each tenth of the window half shortly before its end, half at the beginning of the next. */
const atEdges = (sent: Sent[], ms: number): Sent[] =>
  sent
    .map(({ at, charge }, i) => ({
      at: (Math.floor((at * 10) / ms) + 1) * (ms / 10) + (i % 2 ? 1 : -20),
      charge,
    }))
    .sort((a, b) => a.at - b.at)

/** How many of them are refused where nothing is taken in advance. */
async function refusedWithout(sent: Sent[]): Promise<number> {
  const store = new MemoryStore()
  let refused = 0
  for (const { at, charge } of sent) if (!(await store.step(step([charge]), START + at)).allowed) refused++
  return refused
}

const CASES: [what: string, limit: string, costs: number[], advance: number][] = [
  ...[10, 20, 50, 97, 100, 150, 300, 1000].map((limit): (typeof CASES)[number] => [
    'messages',
    `${limit}/1m`,
    [1],
    64,
  ]),
  ['messages', '100/1s', [1], 64],
  ['messages', '300/2s', [1], 64],
  ['messages', '200/10s', [1], 64],
  ['messages', '50/10s, 200/1m', [1], 64],
  ['recipients', '50/1m', [1, 2], 64],
  ['recipients', '100/1m', [1, 2, 3, 4, 5], 64],
  ['recipients', '1000/1m', [1, 2, 3, 4, 5], 64],
  ['bytes', '2M/1m', [2 ** 12, 2 ** 14, 50_000], 4 * 2 ** 20],
  ['bytes', '100M/1m', [2 ** 12, 2 ** 16, 2 ** 20], 4 * 2 ** 20],
]

const SHAPES = ['evenly', 'at edges'] as const
const ALL = CASES.flatMap((each) => SHAPES.map((shape) => ({ each, shape })))

for (const {
  each: [what, limit, costs, advance],
  shape,
} of ALL) {
  test(`85 % of ${limit} ${what} ${shape} over 8 workers is never refused`, async (t) => {
    const random = randomFrom(seed)
    await redis.flushall()
    const each = charge(limit, { what, advance })
    const even = steady(each, costs, 2.5, random)
    const sent = shape === 'evenly' ? even : atEdges(even, each.limit.windows[0]!.ms)
    assert.equal(await refusedWithout(sent), 0, 'it stays below the limit')
    const world = new World(redis, { count: 8, random, latency: 3 })
    t.after(() => world.close())
    const needed = Math.max(...costs)
    const asks: Promise<boolean>[] = []
    let now = 0
    for (const { at, charge } of sent) {
      if (at > now) await world.pass(at - now, each.limit.windows[0]!.ms < 10_000 ? 1 : 10)
      now = Math.max(now, at)
      const worker = pick(world.workers, random)
      const next = random() < 0.3 ? () => [{ ...each, cost: needed }] : undefined
      asks.push(worker.check([charge], next).then(({ allowed }) => allowed))
    }
    const refused = (await world.finish(asks)).filter((allowed) => !allowed).length
    assert.equal(refused, 0)
  })
}
