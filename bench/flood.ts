// A flood beside a legitimate client: what the client notices, and what one refused connection costs.
import type { Child } from './child'
import { latency, median, ratios, show, shuffled, spread, table } from './figures'
import type { Load, Report } from './load'
import { Server } from './server'
import { FLOOD_ADDRESSES, FLOOD_NETWORK, floodSetups } from './setups'

type Loader = Child<Load, Report>

const LEGITIMATE = { network: '127.22', addresses: 2000, perSecond: 50 }
const AT_ONCE = 50
/** More than the limit of 20 a minute. */
const OVER_LIMIT = 30
const REFUSED = 300

const kinds = ['alone', 'one address', `${FLOOD_ADDRESSES} addresses`] as const
type Kind = (typeof kinds)[number]

const TRIES = 5000
const afterTries = `address after ${TRIES} tries` as const
const costs = ['fresh address', afterTries, `${FLOOD_ADDRESSES} addresses`] as const
type Cost = (typeof costs)[number]

interface Noticed {
  session: number[]
  greeting: number[]
  /** A number a round. */
  p50: number[]
  floodPerSecond: number[]
  lost: number
}

interface Measured {
  server: Server
  noticed: Record<Kind, Noticed>
  cpu: Record<Cost, number[]>
  greeting: Record<Cost, number[]>
  commands: Record<Cost, number[]>
}

/** One entry for each name. */
const each = <K extends string, V>(names: readonly K[], make: () => V): Record<K, V> =>
  Object.fromEntries(names.map((name) => [name, make()])) as Record<K, V>

type From = Pick<Load, 'network' | 'addresses' | 'first'>

const many: From = { network: FLOOD_NETWORK, addresses: FLOOD_ADDRESSES }
/** An address of its own for each round: what the round before has counted does not count. */
const one = (round: number, network = '127.66'): From => ({ network, addresses: 1, first: round })

class Flood {
  constructor(
    private readonly legitimate: Loader,
    private readonly flooder: Loader,
    private readonly seconds: number,
  ) {}

  /** The legitimate client by itself, or with a flood from these addresses. */
  async beside(server: Server, noticed: Noticed, from?: From) {
    const { port } = server.haraka
    const { seconds } = this
    const flood = from && this.flooder.ask({ ...from, port, atOnce: AT_ONCE, seconds })
    const report = await this.legitimate.ask({ ...LEGITIMATE, port, seconds })
    noticed.session.push(...report.times.session)
    noticed.greeting.push(...report.times.greeting)
    noticed.p50.push(median(report.times.session))
    noticed.lost += report.refused + report.failed
    if (!flood) return
    const flooded = await flood
    noticed.floodPerSecond.push((flooded.mailed + flooded.refused) / flooded.seconds)
  }

  /** What a refused connection costs when nothing else goes on; nothing where it is not refused. */
  async cost(measured: Measured, name: Cost, from: From) {
    const { server } = measured
    const connect = (sessions: number, atOnce = 1) =>
      this.flooder.ask({ ...from, port: server.haraka.port, atOnce, sessions })
    const { result, used } = await server.measure(() => connect(REFUSED))
    if (result.refused < REFUSED) return
    measured.cpu[name].push(used.cpu / REFUSED)
    measured.greeting[name].push(...result.times.greeting)
    measured.commands[name].push((await server.commandsOf(() => connect(OVER_LIMIT))) / OVER_LIMIT)
  }

  /** Each of the many addresses uses up what it may do. */
  async useUp(server: Server): Promise<void> {
    await this.flooder.ask({ ...many, port: server.haraka.port, atOnce: AT_ONCE, sessions: FLOOD_ADDRESSES })
  }

  /** Once a run, for so many tries take a while. */
  async costAfterTries(measured: Measured): Promise<void> {
    const { server } = measured
    if (!server.setup.redis) return
    const stubborn = one(0, '127.68')
    await this.flooder.ask({ ...stubborn, port: server.haraka.port, atOnce: AT_ONCE, sessions: TRIES })
    await this.cost(measured, afterTries, stubborn)
  }

  async round(measured: Measured, round: number): Promise<void> {
    const { server, noticed } = measured
    const fresh = one(round, '127.67')
    await this.flooder.ask({ ...fresh, port: server.haraka.port, sessions: OVER_LIMIT })
    await this.cost(measured, 'fresh address', fresh)
    await this.beside(server, noticed.alone)
    await this.beside(server, noticed['one address'], one(round))
    await this.beside(server, noticed[`${FLOOD_ADDRESSES} addresses`], many)
    await this.cost(measured, `${FLOOD_ADDRESSES} addresses`, many)
    if (round === 0) await this.costAfterTries(measured)
  }
}

/** Runs all flood set-ups and returns the tables. */
export async function compareFloods(
  legitimate: Loader,
  flooder: Loader,
  rounds: number,
  seconds: number,
): Promise<string> {
  const flood = new Flood(legitimate, flooder, seconds)
  const all: Measured[] = []
  try {
    for (const setup of floodSetups) {
      all.push({
        server: await Server.start(setup, 0),
        noticed: each(kinds, () => ({ session: [], greeting: [], p50: [], floodPerSecond: [], lost: 0 })),
        cpu: each(costs, () => []),
        greeting: each(costs, () => []),
        commands: each(costs, () => []),
      })
    }
    for (const { server } of all) await flood.useUp(server)
    for (let round = 0; round < rounds; round++) {
      for (const measured of shuffled(all)) await flood.round(measured, round)
    }
  } finally {
    await Promise.all(all.map(({ server }) => server.stop()))
  }
  return [inWords(), noticedTable(all), costTable(all)].join('\n')
}

const inWords = (): string => floodSetups.map(({ name, about }) => `- **${name}**: ${about}\n`).join('')

function noticedTable(all: Measured[]): string {
  const without = all[0]
  const rows = all.flatMap(({ server, noticed }) =>
    kinds.map((kind) => {
      const { session, greeting, p50, floodPerSecond, lost } = noticed[kind]
      const against =
        without && without.server !== server ? spread(ratios(p50, without.noticed[kind].p50)) : '-'
      return [
        server.setup.name,
        kind,
        latency(session),
        against,
        show(median(greeting)),
        show(median(floodPerSecond)),
        String(lost),
      ]
    }),
  )
  return table(
    [
      'set-up',
      'flood from',
      'legitimate session, ms p50 / p95 / p99',
      'p50 × no limiter',
      'its greeting, p50',
      'flood, connections/s',
      'legitimate sessions lost',
    ],
    rows,
  )
}

function costTable(all: Measured[]): string {
  const limited = all.filter(({ server }) => server.setup.redis)
  const stock = limited[0]
  const rows = limited.flatMap((measured) =>
    costs.map((cost) => [
      measured.server.setup.name,
      cost,
      show(median(measured.cpu[cost])),
      stock && stock !== measured ? spread(ratios(measured.cpu[cost], stock.cpu[cost])) : '-',
      show(median(measured.commands[cost])),
      show(median(measured.greeting[cost])),
    ]),
  )
  return table(
    ['set-up', 'refused connection from', 'CPU ms', '× stock', 'Redis commands', '421 after, ms p50'],
    rows,
  )
}
