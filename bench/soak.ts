// The soak: half an hour of all kinds of sessions while Redis and next hops fail, and a look at what is left.
import { setTimeout as sleep } from 'node:timers/promises'
import { type Haraka, startHaraka } from '../test/support/haraka'
import { RedisServer } from '../test/support/redis'
import { Child } from './child'
import type { Section } from './findings'
import { bringAbout, troublesOf } from './soak-chaos'
import type { Answer, Order } from './soak-hops'
import { settle } from './soak-ledger'
import type { SoakLoad, SoakReport } from './soak-load'
import { soakOptions } from './soak-setup'
import { describeSoak } from './soak-tables'
import { watch } from './soak-watch'

/** As long as what is judged: SOAK_MINUTES makes a trial shorter. */
export const FULL_MINUTES = 30
export const soakMinutes = Number(process.env['SOAK_MINUTES']) || FULL_MINUTES
/** A million sessions in all at the full length. */
const PER_SECOND = Number(process.env['SOAK_RATE']) || 560
const SEED = Number(process.env['SEED'] ?? 5321)
const WORKERS = 4
const SAMPLE_MS = 2000
/** Retries come at most 20 s apart, and each next hop is well again. */
const DRAIN_MS = 300_000
/** Connections that nobody uses are closed by then, on both sides. */
const IDLE_MS = 75_000

/** Runs it. Rejects where something does not start. */
export async function soak(): Promise<Section> {
  const hops = Child.start<Order, Answer>('soak-hops')
  const load = Child.start<SoakLoad, SoakReport>('soak-load')
  const redis = await RedisServer.start()
  let haraka: Haraka | undefined
  try {
    const { ports } = await hops.ask({ begin: SEED })
    haraka = await startHaraka(soakOptions(ports!, redis.port, WORKERS))
    return await run(haraka, redis, hops, load)
  } finally {
    await haraka?.stop()
    await redis.stop()
    await load.stop()
    await hops.stop()
  }
}

async function run(
  haraka: Haraka,
  redis: RedisServer,
  hops: Child<Order, Answer>,
  load: Child<SoakLoad, SoakReport>,
): Promise<Section> {
  await sleep(6000)
  const seconds = soakMinutes * 60
  const workers = haraka.workers()
  const processes = [
    { name: 'master', pid: haraka.pid },
    ...workers.map((pid, n) => ({ name: `worker ${n + 1}`, pid })),
  ]
  const events = troublesOf(seconds, SEED)
  const watching = watch(processes, SAMPLE_MS)
  const [report] = await Promise.all([
    load.ask({ port: haraka.port, perSecond: PER_SECOND, seconds, seed: SEED }),
    bringAbout(events, redis, hops),
  ])
  const drainStart = performance.now()
  const isEmpty = await haraka.queueEmpty(DRAIN_MS).then(
    () => true,
    () => false,
  )
  const drained = isEmpty ? (performance.now() - drainStart) / 1000 : undefined
  await sleep(IDLE_MS)
  const watched = watching.stop()
  const { seen } = await hops.ask({ tell: true })
  const ledger = settle(report.states, report.lastId, seen!)
  const died = workers.filter((pid) => !haraka.workers().includes(pid)).length
  const failures = haraka.failures()
  return describeSoak({
    seconds,
    perSecond: PER_SECOND,
    seed: SEED,
    report,
    events,
    watched,
    ledger,
    drained,
    died,
    failures,
  })
}
