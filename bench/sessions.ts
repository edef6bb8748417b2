// Whole sessions through each set-up, turn by turn: throughput, CPU, Redis commands, and the latency of each phase.
import type { Child } from './child'
import type { Phase } from './dialogue'
import { latency, median, ratios, show, shuffled, spread, table } from './figures'
import type { Load, Report } from './load'
import { Server } from './server'
import type { Group } from './setups'

type Loader = Child<Load, Report>

/** What was measured of one set-up: a number a round, and all times at low load. */
interface Measured {
  server: Server
  perSecond: number[]
  cpu: number[]
  redisCpu: number[]
  commands: number
  times: Report['times'][]
}

const AT_ONCE = 20
const BATCH = 300
const WARM_UP = 600
const LOW_LOAD = 60
const PHASES: Phase[] = ['greeting', 'mail', 'rcpt', 'dot', 'session']

const clients = { network: '127.21', addresses: 254 }

async function batch({ server }: Measured, loader: Loader, sessions: number): Promise<Report> {
  const report = await loader.ask({ ...clients, port: server.haraka.port, atOnce: AT_ONCE, sessions })
  if (report.mailed === sessions) return report
  const { mailed, refused, failed } = report
  throw new Error(`${server.setup.name}: ${mailed} mailed, ${refused} refused, ${failed} failed`)
}

async function throughput(measured: Measured, loader: Loader): Promise<void> {
  const { result, used } = await measured.server.measure(() => batch(measured, loader, BATCH))
  measured.perSecond.push(BATCH / result.seconds)
  measured.cpu.push(used.cpu / BATCH)
  measured.redisCpu.push(used.redisCpu / BATCH)
}

async function lowLoad({ server, times }: Measured, loader: Loader, seconds: number): Promise<void> {
  const report = await loader.ask({ ...clients, port: server.haraka.port, perSecond: LOW_LOAD, seconds })
  times.push(report.times)
}

export interface Lengths {
  /** Rounds of batches. */
  rounds: number
  /** Of low load, in each of its two rounds. */
  seconds: number
}

/** Runs one group and returns its tables. All its set-ups are up all the time. */
export async function compareSessions(
  group: Group,
  loader: Loader,
  sinkPort: number,
  { rounds, seconds }: Lengths,
): Promise<string> {
  const all: Measured[] = []
  try {
    for (const setup of group.setups) {
      const server = await Server.start(setup, sinkPort)
      all.push({ server, perSecond: [], cpu: [], redisCpu: [], commands: 0, times: [] })
    }
    for (const each of all) await batch(each, loader, WARM_UP)
    for (const each of all) {
      each.commands = (await each.server.commandsOf(() => batch(each, loader, BATCH))) / BATCH
    }
    for (let round = 0; round < rounds; round++) {
      for (const each of shuffled(all)) await throughput(each, loader)
    }
    for (let round = 0; round < 2; round++) {
      for (const each of shuffled(all)) await lowLoad(each, loader, seconds)
    }
  } finally {
    await Promise.all(all.map(({ server }) => server.stop()))
  }
  return [`### ${group.title}\n`, inWords(all), throughputTable(all), latencyTable(all)].join('\n')
}

const inWords = (all: Measured[]): string =>
  all.map(({ server: { setup } }) => `- **${setup.name}**: ${setup.about}\n`).join('')

function throughputTable(all: Measured[]): string {
  const bare = all[0]
  const rows = all.map((each) => {
    const { setup } = each.server
    const stock = all.find(({ server }) => server.setup.name === setup.counterpart)
    const against = (other: Measured | undefined, what: 'perSecond' | 'cpu') =>
      other && other !== each ? spread(ratios(each[what], other[what])) : '-'
    return [
      setup.name,
      spread(each.perSecond),
      against(bare, 'perSecond'),
      against(stock, 'perSecond'),
      show(median(each.cpu)),
      against(bare, 'cpu'),
      against(stock, 'cpu'),
      show(each.commands),
      show(median(each.redisCpu)),
    ]
  })
  return table(
    [
      'closed loop, 20 at once',
      'sessions/s',
      '× bare',
      '× stock',
      'CPU ms/session',
      '× bare',
      '× stock',
      'Redis commands/session',
      'Redis CPU ms/session',
    ],
    rows,
  )
}

function latencyTable(all: Measured[]): string {
  const rows = all.map(({ server, times }) => [
    server.setup.name,
    ...PHASES.map((phase) => latency(times.flatMap((each) => each[phase]))),
  ])
  return table([`${LOW_LOAD} sessions/s, ms p50 / p95 / p99`, ...PHASES], rows)
}
