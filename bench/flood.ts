// A flood beside a legitimate client: what the client notices, and what one refused connection costs.
import { legend, shuffled } from './figures'
import type { Section } from './findings'
import { FLOOD_ADDRESSES, FLOOD_NETWORK, floodSetups } from './flood-setups'
import {
  afterTries,
  type CostOf,
  costs,
  findings,
  kinds,
  MANY_AT_ONCE,
  type Measured,
  manyAtOnce,
  type Noticed,
  noticedTable,
  refusalTable,
  TRIES,
} from './flood-tables'
import type { Clients, Report } from './load'
import { type Loader, startAll } from './measure'
import type { Server } from './server'

const LEGITIMATE = { network: '127.22', addresses: 2000, perSecond: 50 }
const AT_ONCE = 50
/** As many as are held for a moment, so that many tries are made soon. */
const IN_A_HURRY = 400
/** More than the limit of 20 a minute. */
const OVER_LIMIT = 30
const REFUSED = 160
/** Of one address: fewer than the limit of 10 at once, so that it is the rate that refuses. */
const FEW_AT_ONCE = 8

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

  /** So many connections from these addresses. */
  private connect(server: Server, from: Clients, sessions: number, atOnce = AT_ONCE): Promise<Report> {
    return this.flooder.ask({ ...from, port: server.haraka.port, atOnce, sessions })
  }

  private flood(server: Server, from: Clients, atOnce = AT_ONCE): Promise<Report> {
    return this.flooder.ask({ ...from, port: server.haraka.port, atOnce, seconds: this.seconds })
  }

  /** The legitimate client by itself, or with a flood from these addresses. */
  async beside(server: Server, noticed: Noticed, from?: Clients, atOnce?: number): Promise<void> {
    const flood = from && this.flood(server, from, atOnce)
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
    const atOnce = from.addresses === 1 ? FEW_AT_ONCE : AT_ONCE
    const { result, used } = await server.measure(() => this.connect(server, from, REFUSED, atOnce))
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
    for (let left = times; left > 0; left--) await this.connect(server, many, FLOOD_ADDRESSES, IN_A_HURRY)
  }

  /** Once a run, for so many tries take a while. */
  async costAfterTries(measured: Measured): Promise<void> {
    const stubborn = one(0, '127.68')
    await this.connect(measured.server, stubborn, TRIES, IN_A_HURRY)
    await this.cost(measured, afterTries, stubborn)
  }

  async round(measured: Measured, round: number): Promise<void> {
    const { server, noticed } = measured
    await this.beside(server, noticed.alone)
    await this.beside(server, noticed['one address'], one(round))
    await this.beside(server, noticed[`${FLOOD_ADDRESSES} addresses`], many)
    await this.beside(server, noticed[manyAtOnce], many, MANY_AT_ONCE)
    if (!server.setup.redis) return
    const fresh = one(round, '127.67')
    await this.connect(server, fresh, OVER_LIMIT, 1)
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
