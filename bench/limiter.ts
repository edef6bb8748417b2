// The limiter alone, beside the commands of haraka-plugin-limit and rate-limiter-flexible on the same redis-server:
// checks a second and latency for 1, 3 and 6 counters a check, turn by turn.
import { createRequire } from 'node:module'
import type { Redis } from 'ioredis'
import type { Charge, Step, Store } from '../core/limiter/contract'
import { MemoryStore } from '../core/limiter/memory-store'
import { parseRate } from '../core/limiter/rate'
import { RedisStore } from '../core/limiter/redis-store'
import { closeRedis, openRedis } from '../core/redis/connection'
import { RedisServer, until } from '../test/support/redis'
import { median, ratios, show, spread, table } from './figures'
import { type Section, worse } from './findings'

/** How long a system is asked in one turn. */
const TURN_MS = 250
const SUBJECTS = 20_000
const limit = parseRate('1000000/1h')

/** What each counter of a check counts: as at RCPT, where one subject may have several. */
const COUNTERS = [
  ['ip', 'messages'],
  ['ip', 'recipients'],
  ['network', 'recipients'],
  ['user', 'recipients'],
  ['sender', 'recipients'],
  ['recipient', 'recipients'],
] as const

type Check = (counters: number, subject: number) => Promise<unknown>

const chargesFor = (counters: number, subject: number): Charge[] =>
  COUNTERS.slice(0, counters).map(([scope, what]) => ({
    scope,
    what,
    subject: `${scope}${subject}@sender.example`,
    cost: 1,
    limit,
  }))

const throughStore =
  (store: Store): Check =>
  (counters, subject) => {
    const step: Step = { op: 'check', charges: chargesFor(counters, subject), leases: [], by: 'bench/1' }
    return store.step(step)
  }

/** What haraka-plugin-limit's rate limits send, one after the other: INCR, and EXPIRE for the first (its rate_limit). */
const likeLimitPlugin =
  (client: Redis): Check =>
  async (counters, subject) => {
    for (const [scope, what] of COUNTERS.slice(0, counters)) {
      const key = `rate_${what}:${scope}${subject}@sender.example`
      if ((await client.incr(key)) === 1) await client.expire(key, 3600)
    }
  }

interface Flexible {
  RateLimiterRedis: new (
    options: Record<string, unknown>,
  ) => { consume(key: string, points: number): Promise<unknown> }
}

/** rate-limiter-flexible, if it is installed (or its folder named in FLEXIBLE): one call a counter, side by side. */
function likeFlexible(client: Redis): Check | undefined {
  try {
    const name = process.env.FLEXIBLE ?? 'rate-limiter-flexible'
    const { RateLimiterRedis }: Flexible = createRequire(__filename)(name)
    const limiters = COUNTERS.map(
      ([scope, what]) =>
        new RateLimiterRedis({
          storeClient: client,
          keyPrefix: `${scope}-${what}`,
          points: 1_000_000,
          duration: 3600,
        }),
    )
    return (counters, subject) =>
      Promise.all(
        limiters.slice(0, counters).map((limiter, i) => limiter.consume(`${COUNTERS[i]?.[0]}${subject}`, 1)),
      )
  } catch {
    return undefined
  }
}

interface Result {
  rate: number
  p50: number
  p99: number
}

async function measure(check: Check, counters: number, parallel: number): Promise<Result> {
  const times: number[] = []
  const start = performance.now()
  let n = 0
  const run = async () => {
    while (performance.now() - start < TURN_MS) {
      const before = performance.now()
      await check(counters, (n++ * 7919) % SUBJECTS)
      times.push(performance.now() - before)
    }
  }
  await Promise.all(Array.from({ length: parallel }, run))
  const rate = (times.length * 1000) / (performance.now() - start)
  times.sort((a, b) => a - b)
  return { rate, p50: times[times.length >> 1] ?? 0, p99: times[Math.floor(times.length * 0.99)] ?? 0 }
}

/** A row of the table of sizes. */
async function bytesPerSubject(client: Redis, store: Store, text: string): Promise<string[]> {
  const used = async () => Number(/used_memory:(\d+)/.exec(await client.info('memory'))?.[1])
  await client.flushall()
  const before = await used()
  const charge = (i: number): Charge => {
    const subject = `198.51.${i >> 8}.${i & 255}`
    return { scope: 'ip', what: 'messages', subject, cost: 1, limit: parseRate(text) }
  }
  const all = Array.from({ length: 100_000 }, (_, i) => i)
  while (all.length) {
    await Promise.all(
      all
        .splice(0, 500)
        .map((i) => store.step({ op: 'check', charges: [charge(i)], leases: [], by: 'bench/1' })),
    )
  }
  const usage = await client.memory('USAGE', 'relay-guard:rate:{ip:198.51.100.100}:messages')
  return [text, `${usage}`, show(((await used()) - before) / 100_000)]
}

const COUNTERS_A_CHECK = [1, 3, 6]
const IN_FLIGHT = [1, 64]
const THEIRS = 'haraka-plugin-limit (INCR, EXPIRE)'

/** One system at one number of counters and of checks in flight: a result for each round. */
interface Measured {
  name: string
  check: Check
  results: Result[]
}

async function compareAt(
  systems: [string, Check][],
  counters: number,
  inFlight: number,
  rounds: number,
): Promise<{ rows: string[][]; worse: string[] }> {
  const all: Measured[] = systems.map(([name, check]) => ({ name, check, results: [] }))
  for (let round = 0; round < rounds; round++) {
    for (const { check, results } of all) results.push(await measure(check, counters, inFlight))
  }
  const ratesOf = ({ results }: Measured) => results.map(({ rate }) => rate)
  const theirs = all.find(({ name }) => name === THEIRS)
  const against = (each: Measured) => ratios(ratesOf(each), theirs ? ratesOf(theirs) : [])
  const rows = all.map((each) => [
    `${counters}`,
    `${inFlight}`,
    each.name,
    `${Math.round(median(ratesOf(each)))}`,
    ...(['p50', 'p99'] as const).map((part) => median(each.results.map((one) => one[part])).toFixed(3)),
    spread(against(each)),
  ])
  const where = `${counters} counters, ${inFlight} in flight`
  const ours = all.filter(({ name }) => name.startsWith('relay-guard'))
  const lost = ours.flatMap((each) =>
    worse(`The limiter alone, ${where}, ${each.name}`, THEIRS, [
      { name: 'checks/s', ratios: against(each), better: 'higher' },
    ]),
  )
  return { rows, worse: lost }
}

/** Runs the comparison and returns its tables. */
export async function compareLimiters(rounds: number): Promise<Section> {
  const server = await RedisServer.start()
  const client = openRedis(server.settings)
  const plain = server.client()
  await until(() => client.status === 'ready')
  const redis = new RedisStore(client, { prefix: 'relay-guard:', timeout: 60_000 })
  const flexible = likeFlexible(plain)
  const systems: [string, Check][] = [
    ['relay-guard, Redis', throughStore(redis)],
    ['relay-guard, memory', throughStore(new MemoryStore())],
    [THEIRS, likeLimitPlugin(plain)],
    ...(flexible ? [['rate-limiter-flexible', flexible] satisfies [string, Check]] : []),
    ['one INCR (ceiling)', (_, subject) => plain.incr(`one:${subject}`)],
  ]
  const compared = []
  for (const counters of COUNTERS_A_CHECK) {
    for (const inFlight of IN_FLIGHT) compared.push(await compareAt(systems, counters, inFlight, rounds))
  }
  const sizes: string[][] = []
  for (const text of ['30/1m', '300/1h', '30/1m, 300/1h'])
    sizes.push(await bytesPerSubject(plain, redis, text))
  plain.disconnect()
  await closeRedis(client)
  await server.stop()
  const head = ['counters', 'in flight', 'system', 'checks/s', 'p50 ms', 'p99 ms', '× limit plugin']
  const sizeHead = ['limit', 'MEMORY USAGE, bytes', 'bytes of used_memory a subject (100,000)']
  const rows = compared.flatMap((each) => each.rows)
  return {
    text: [table(head, rows), table(sizeHead, sizes)].join('\n'),
    worse: compared.flatMap((each) => each.worse),
  }
}
