// What one session costs a server under load: sessions a second, CPU, Redis commands.
import type { Child } from './child'
import type { Clients, Load, Report } from './load'
import { Server } from './server'
import type { Setup } from './setup'

export type Loader = Child<Load, Report>

const AT_ONCE = 20
const BATCH = 500
/** Sessions of each worker before anything is measured: after so many Node.js has compiled what is used often. */
const WARM_UP = 2000

/** The steady load under which Redis commands are counted. */
export const STEADY = { perSecond: 100, seconds: 3 }

/** Enough networks and addresses that the package's limits.ini refuses nobody. */
const usualClients: Clients = { network: '127.21', addresses: 2000 }
/** So many that none comes twice in one load. */
export const newClients: Clients = { network: '127.24', addresses: 60_000 }

/** What was measured of one set-up, a number a round. */
export interface Cost {
  server: Server
  perSecond: number[]
  cpu: number[]
  redisCpu: number[]
  /** Redis commands a session, from the set-up's clients. */
  commands: number
}

async function mailed({ setup, haraka }: Server, loader: Loader, load: Partial<Load>): Promise<Report> {
  const report = await loader.ask({ ...usualClients, ...setup.clients, ...load, port: haraka.port })
  const { mailed, refused, failed } = report
  if (mailed > 0 && refused + failed === 0) return report
  throw new Error(`${setup.name}: ${mailed} mailed, ${refused} refused, ${failed} failed`)
}

/** The Redis commands that a session sends under steady load, from these clients or those of the set-up. Rejects when one is refused. */
export async function commandsPerSession(server: Server, loader: Loader, clients?: Clients): Promise<number> {
  if (!server.redis) return 0
  const commands = await server.commandsOf(() => mailed(server, loader, { ...clients, ...STEADY }))
  return commands / (STEADY.perSecond * STEADY.seconds)
}

/** Starts all set-ups. When one does not start, those that did are stopped. */
export async function startAll(setups: Setup[], sinkPort: number): Promise<Server[]> {
  const servers: Server[] = []
  try {
    for (const setup of setups) servers.push(await Server.start(setup, sinkPort))
    return servers
  } catch (error) {
    await Promise.all(servers.map((server) => server.stop()))
    throw error
  }
}

/** Warms the server up and counts its Redis commands. */
export async function begin(server: Server, loader: Loader): Promise<Cost> {
  await mailed(server, loader, { atOnce: AT_ONCE, sessions: WARM_UP * (server.setup.nodes ?? 1) })
  const commands = await commandsPerSession(server, loader)
  return { server, perSecond: [], cpu: [], redisCpu: [], commands }
}

/** One round more of throughput: as many sessions a second as 20 clients at once get through. Rejects when one is refused. */
export async function throughput(cost: Cost, loader: Loader): Promise<void> {
  const { result, used } = await cost.server.measure(() =>
    mailed(cost.server, loader, { atOnce: AT_ONCE, sessions: BATCH }),
  )
  cost.perSecond.push(BATCH / result.seconds)
  cost.cpu.push(used.cpu / BATCH)
  cost.redisCpu.push(used.redisCpu / BATCH)
}

/** So many sessions a second for so long, as the clients see them. Rejects when one is refused. */
export const lowLoad = (server: Server, loader: Loader, perSecond: number, seconds: number) =>
  mailed(server, loader, { perSecond, seconds })
