// A flood beside a legitimate client: what the client notices, and what one refused connection costs.
import {
  latency,
  latencyCompared,
  legend,
  median,
  PART_NAMES,
  ratios,
  show,
  shuffled,
  spread,
  table,
} from './figures'
import { type Section, worse } from './findings'
import { FLOOD_ADDRESSES, FLOOD_NETWORK, floodSetups } from './flood-setups'
import type { Clients, Report } from './load'
import { type Loader, startAll } from './measure'
import type { Server } from './server'

const LEGITIMATE = { network: '127.22', addresses: 2000, perSecond: 50 }
const AT_ONCE = 50
/** More than the limit of 20 a minute. */
const OVER_LIMIT = 30
const REFUSED = 300
const TRIES = 5000

const kinds = ['alone', 'one address', `${FLOOD_ADDRESSES} addresses`] as const
type Kind = (typeof kinds)[number]

const afterTries = `address after ${TRIES} tries` as const
const costs = ['fresh address', afterTries, `${FLOOD_ADDRESSES} addresses`] as const
type CostOf = (typeof costs)[number]

/** What the legitimate client saw, by round. */
interface Noticed {
  sessions: number[][]
  greetings: number[][]
  floodPerSecond: number[]
  lost: number
}

/** Of one refused connection: a number a round, and its Redis commands, which are counted once. */
interface Refusal {
  cpu: number[]
  greeting: number[]
  commands: number | undefined
}

interface Measured {
  server: Server
  noticed: Record<Kind, Noticed>
  refusals: Record<CostOf, Refusal>
}

/** One entry for each name. */
const each = <K extends string, V>(names: readonly K[], make: () => V): Record<K, V> =>
  Object.fromEntries(names.map((name) => [name, make()])) as Record<K, V>

const many: Clients = { network: FLOOD_NETWORK, addresses: FLOOD_ADDRESSES }
/** An address of its own for each round: what the round before has counted does not count. */
const one = (round: number, network = '127.66'): Clients => ({ network, addresses: 1, first: round })

class Flood {
  constructor(
    private readonly legitimate: Loader,
    private readonly flooder: Loader,
    private readonly seconds: number,
  ) {}

  /** So many connections from these addresses, one after the other or so many at once. */
  private connect(server: Server, from: Clients, sessions: number, atOnce = 1): Promise<Report> {
    return this.flooder.ask({ ...from, port: server.haraka.port, atOnce, sessions })
  }

  private flood(server: Server, from: Clients): Promise<Report> {
    return this.flooder.ask({ ...from, port: server.haraka.port, atOnce: AT_ONCE, seconds: this.seconds })
  }

  /** The legitimate client by itself, or with a flood from these addresses. */
  async beside(server: Server, noticed: Noticed, from?: Clients): Promise<void> {
    const flood = from && this.flood(server, from)
    const load = { ...LEGITIMATE, port: server.haraka.port, seconds: this.seconds }
    const report = await this.legitimate.ask(load)
    noticed.sessions.push(report.times.session)
    noticed.greetings.push(report.times.greeting)
    noticed.lost += report.refused + report.failed
    if (!flood) return
    const flooded = await flood
    noticed.floodPerSecond.push((flooded.mailed + flooded.refused) / flooded.seconds)
  }

  /** What a refused connection costs when nothing else goes on; nothing where it is not refused. */
  async cost({ server, refusals }: Measured, name: CostOf, from: Clients): Promise<void> {
    const refusal = refusals[name]
    const { result, used } = await server.measure(() => this.connect(server, from, REFUSED))
    if (result.refused < REFUSED) return
    refusal.cpu.push(used.cpu / REFUSED)
    refusal.greeting.push(...result.times.greeting)
    refusal.commands ??= await this.commands(server, from)
  }

  /** Redis commands a refused connection, in a flood of some seconds. */
  private async commands(server: Server, from: Clients): Promise<number> {
    let refused = 0
    const commands = await server.commandsOf(async () => {
      refused = (await this.flood(server, from)).refused
    })
    return commands / refused
  }

  /** Each of the many addresses uses up what it may do, and is refused once. */
  async useUp(server: Server): Promise<void> {
    const times = server.setup.redis ? 2 : 1
    for (let left = times; left > 0; left--) await this.connect(server, many, FLOOD_ADDRESSES, AT_ONCE)
  }

  /** Once a run, for so many tries take a while. */
  async costAfterTries(measured: Measured): Promise<void> {
    const stubborn = one(0, '127.68')
    await this.connect(measured.server, stubborn, TRIES, AT_ONCE)
    await this.cost(measured, afterTries, stubborn)
  }

  async round(measured: Measured, round: number): Promise<void> {
    const { server, noticed } = measured
    await this.beside(server, noticed.alone)
    await this.beside(server, noticed['one address'], one(round))
    await this.beside(server, noticed[`${FLOOD_ADDRESSES} addresses`], many)
    if (!server.setup.redis) return
    const fresh = one(round, '127.67')
    await this.connect(server, fresh, OVER_LIMIT)
    await this.cost(measured, 'fresh address', fresh)
    await this.cost(measured, `${FLOOD_ADDRESSES} addresses`, many)
    if (round === 0) await this.costAfterTries(measured)
  }
}

const unmeasured = (server: Server): Measured => ({
  server,
  noticed: each(kinds, () => ({ sessions: [], greetings: [], floodPerSecond: [], lost: 0 })),
  refusals: each(costs, () => ({ cpu: [], greeting: [], commands: undefined })),
})

/** Runs all flood set-ups, each kind of flood for so many seconds, and returns the tables. */
export async function compareFloods(
  legitimate: Loader,
  flooder: Loader,
  rounds: number,
  seconds: number,
): Promise<Section> {
  const flood = new Flood(legitimate, flooder, seconds)
  const servers = await startAll(floodSetups, 0)
  try {
    const all = servers.map(unmeasured)
    for (const server of servers) await flood.useUp(server)
    for (let round = 0; round < rounds; round++) {
      for (const measured of shuffled(all)) await flood.round(measured, round)
    }
    const text = [legend(floodSetups), noticedTable(all), refusalTable(all)].join('\n')
    return { text, worse: [...findings(all), ...servers.flatMap((server) => server.lostRedis())] }
  } finally {
    await Promise.all(servers.map((server) => server.stop()))
  }
}

/** The legitimate sessions' p50, p95 and p99, each as a ratio to those of the other set-up in the same round. */
const sessionRatios = (measured: Measured, other: Measured, kind: Kind): number[][] =>
  latencyCompared(ratios, measured.noticed[kind].sessions, other.noticed[kind].sessions)

function noticedTable(all: Measured[]): string {
  const without = all[0]
  const rows = all.flatMap((measured) =>
    kinds.map((kind) => {
      const { sessions, greetings, floodPerSecond, lost } = measured.noticed[kind]
      const against =
        without && without !== measured ? sessionRatios(measured, without, kind).map(spread) : ['-', '-', '-']
      return [
        measured.server.setup.name,
        kind,
        latency(sessions.flat()),
        ...against,
        latency(greetings.flat()),
        show(median(floodPerSecond)),
        String(lost),
      ]
    }),
  )
  return table(
    [
      'set-up',
      'flood from',
      `legitimate session, ms ${PART_NAMES.join(' / ')}`,
      ...PART_NAMES.map((part) => `${part} × no limiter`),
      `its greeting, ms ${PART_NAMES.join(' / ')}`,
      'flood, connections/s',
      'legitimate sessions lost',
    ],
    rows,
  )
}

function refusalTable(all: Measured[]): string {
  const limited = all.filter(({ server }) => server.setup.redis)
  const stock = limited[0]
  const rows = limited.flatMap((measured) =>
    costs.map((cost) => {
      const { cpu, commands, greeting } = measured.refusals[cost]
      return [
        measured.server.setup.name,
        cost,
        show(median(cpu)),
        stock && stock !== measured ? spread(ratios(cpu, stock.refusals[cost].cpu)) : '-',
        show(commands ?? Number.NaN),
        show(median(greeting)),
      ]
    }),
  )
  return table(
    ['set-up', 'refused connection from', 'CPU ms', '× stock', 'Redis commands', '421 after, ms p50'],
    rows,
  )
}

function findings(all: Measured[]): string[] {
  const ours = all.at(-1)
  if (!ours) return []
  return all.slice(0, -1).flatMap((other) => [
    ...kinds.flatMap((kind) =>
      worse(`Limits, ${kind === 'alone' ? 'no flood' : `flood from ${kind}`}`, other.server.setup.name, [
        ...sessionRatios(ours, other, kind).map((ratios, at) => ({
          name: `a legitimate session's ${PART_NAMES[at]}`,
          ratios,
          better: 'lower' as const,
        })),
      ]),
    ),
    ...costs.flatMap((cost) =>
      worse(`Limits, a refused connection from ${cost}`, other.server.setup.name, [
        { name: 'CPU', ratios: ratios(ours.refusals[cost].cpu, other.refusals[cost].cpu), better: 'lower' },
      ]),
    ),
  ])
}
