// The limiter alone, beside the commands of haraka-plugin-limit and rate-limiter-flexible on the same redis-server:
// checks a second and latency for 1, 3 and 6 counters a check. Runs are interleaved; medians. `ROUNDS=5 SECONDS=1`.
import { createRequire } from 'node:module'
import { cpus } from 'node:os'
import type { Redis } from 'ioredis'
import type { Charge, Step, Store } from '../core/limiter/contract'
import { MemoryStore } from '../core/limiter/memory-store'
import { parseRate } from '../core/limiter/rate'
import { RedisStore } from '../core/limiter/redis-store'
import { closeRedis, openRedis } from '../core/redis/connection'
import { RedisServer, until } from '../test/support/redis'

const ROUNDS = Number(process.env.ROUNDS ?? 5)
const MS = 1000 * Number(process.env.SECONDS ?? 1)
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

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1] ?? 0

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
    while (performance.now() - start < MS) {
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

async function bytesPerSubject(client: Redis, store: Store, text: string): Promise<string> {
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
  return `| ${text} | ${usage} | ${Math.round((await used()) - before) / 100_000} |`
}

async function main(): Promise<void> {
  const server = await RedisServer.start()
  const client = openRedis(server.settings)
  const plain = server.client()
  await until(() => client.status === 'ready')
  const redis = new RedisStore(client, { prefix: 'relay-guard:', timeout: 60_000 })
  const flexible = likeFlexible(plain)
  const systems: [string, Check][] = [
    ['relay-guard, Redis', throughStore(redis)],
    ['relay-guard, memory', throughStore(new MemoryStore())],
    ['haraka-plugin-limit (INCR, EXPIRE)', likeLimitPlugin(plain)],
    ...(flexible ? [['rate-limiter-flexible', flexible] satisfies [string, Check]] : []),
    ['one INCR (ceiling)', (_, subject) => plain.incr(`one:${subject}`)],
  ]
  console.log(`${cpus().length} x ${cpus()[0]?.model}, Node ${process.version}, ${ROUNDS} rounds, medians\n`)
  console.log('| counters | in flight | system | checks/s | p50 ms | p99 ms | beside the limit plugin |')
  console.log('| --- | --- | --- | --- | --- | --- | --- |')
  for (const counters of [1, 3, 6]) {
    for (const parallel of [1, 64]) {
      const results = new Map(systems.map(([name]) => [name, [] as Result[]]))
      for (let round = 0; round < ROUNDS; round++) {
        for (const [name, check] of systems) results.get(name)?.push(await measure(check, counters, parallel))
      }
      const rateOf = (name: string) => median((results.get(name) ?? []).map(({ rate }) => rate))
      for (const [name, all] of results) {
        const [p50, p99] = [median(all.map((one) => one.p50)), median(all.map((one) => one.p99))]
        const ratio = rateOf(name) / rateOf('haraka-plugin-limit (INCR, EXPIRE)')
        const cells = [
          counters,
          parallel,
          name,
          Math.round(rateOf(name)),
          p50.toFixed(3),
          p99.toFixed(3),
          ratio.toFixed(2),
        ]
        console.log(`| ${cells.join(' | ')} |`)
      }
    }
  }
  console.log(
    '\n| limit | MEMORY USAGE, bytes | bytes of used_memory a subject (100,000) |\n| --- | --- | --- |',
  )
  for (const text of ['30/1m', '300/1h', '30/1m, 300/1h'])
    console.log(await bytesPerSubject(plain, redis, text))
  plain.disconnect()
  await closeRedis(client)
  await server.stop()
}

void main()
