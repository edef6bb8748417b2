// Whole sessions through each set-up, turn by turn: throughput, CPU, Redis commands, and the latency of each phase.
import type { Phase } from './dialogue'
import {
  differences,
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
import type { Report } from './load'
import {
  begin,
  type Cost,
  commandsPerSession,
  type Loader,
  lowLoad,
  newClients,
  startAll,
  throughput,
} from './measure'
import type { Group } from './setup'

/** The times of all rounds at low load are kept by round. */
interface Measured extends Cost {
  /** Redis commands a session when each comes from another address. */
  newCommands: number
  times: Report['times'][]
}

const LOW_LOAD = 60
const PHASES: Phase[] = ['mail', 'rcpt', 'dot']
const COMPARED: Phase[] = ['greeting', 'session']

/** How long a comparison goes on. */
export interface Lengths {
  /** Rounds of batches. */
  rounds: number
  /** Rounds at low load, and the seconds of each. */
  lowRounds: number
  seconds: number
}

async function measure(group: Group, all: Measured[], loader: Loader, lengths: Lengths): Promise<Section> {
  for (let round = 0; round < lengths.rounds; round++) {
    for (const each of shuffled(all)) await throughput(each, loader)
  }
  for (let round = 0; round < lengths.lowRounds; round++) {
    for (const each of shuffled(all)) {
      each.times.push((await lowLoad(each.server, loader, LOW_LOAD, lengths.seconds)).times)
    }
  }
  const tables = [throughputTable(all), latencyTable(all), phaseTable(all)]
  const text = [`### ${group.title}\n`, legend(group.setups), ...tables].join('\n')
  return { text, worse: [...findings(all), ...all.flatMap(({ server }) => server.lostRedis())] }
}

/** Runs one group and returns its tables. All its set-ups are up all the time. */
export async function compareSessions(
  group: Group,
  loader: Loader,
  sinkPort: number,
  lengths: Lengths,
): Promise<Section> {
  const servers = await startAll(group.setups, sinkPort)
  try {
    const all: Measured[] = []
    for (const server of servers) {
      const cost = await begin(server, loader)
      all.push({ ...cost, newCommands: await commandsPerSession(server, loader, newClients), times: [] })
    }
    return await measure(group, all, loader, lengths)
  } finally {
    await Promise.all(servers.map((server) => server.stop()))
  }
}

const nameOf = ({ server }: Cost): string => server.setup.name

/** The set-up that does the same with stock plugins. */
const counterpartOf = ({ server }: Measured, all: Measured[]): Measured | undefined =>
  all.find((other) => nameOf(other) === server.setup.counterpart)

function throughputTable(all: Measured[]): string {
  const bare = all[0]
  const rows = all.map((each) => {
    const stock = counterpartOf(each, all)
    const against = (other: Measured | undefined, what: 'perSecond' | 'cpu') =>
      other && other !== each ? spread(ratios(each[what], other[what])) : '-'
    return [
      nameOf(each),
      spread(each.perSecond),
      against(bare, 'perSecond'),
      against(stock, 'perSecond'),
      show(median(each.cpu)),
      against(bare, 'cpu'),
      against(stock, 'cpu'),
      show(each.commands),
      show(each.newCommands),
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
      'each from a new address',
      'Redis CPU ms/session',
    ],
    rows,
  )
}

const timesOf = ({ times }: Measured, phase: Phase): number[][] => times.map((each) => each[phase])

/** How much longer than `other` a phase takes: for p50, p95 and p99, a number a round. */
const longerThan = (each: Measured, other: Measured, phase: Phase): number[][] =>
  latencyCompared(differences, timesOf(each, phase), timesOf(other, phase))

function latencyTable(all: Measured[]): string {
  const bare = all[0]
  const rows = all.map((each) => [
    nameOf(each),
    ...COMPARED.flatMap((phase) => [
      latency(timesOf(each, phase).flat()),
      bare && bare !== each ? longerThan(each, bare, phase).map(spread).join(' / ') : '-',
    ]),
  ])
  const head = COMPARED.flatMap((phase) => [phase, `${phase} − bare`])
  return table([`${LOW_LOAD} sessions/s, ms ${PART_NAMES.join(' / ')}`, ...head], rows)
}

function phaseTable(all: Measured[]): string {
  const rows = all.map((each) => [
    nameOf(each),
    ...PHASES.map((phase) => latency(timesOf(each, phase).flat())),
  ])
  return table([`${LOW_LOAD} sessions/s, ms ${PART_NAMES.join(' / ')}`, ...PHASES], rows)
}

function worseThan(other: Measured | undefined, each: Measured): string[] {
  if (!other || other === each) return []
  const waits = COMPARED.flatMap((phase) =>
    longerThan(each, other, phase).map((longerBy, at) => ({ name: `${phase} ${PART_NAMES[at]}`, longerBy })),
  )
  return worse(nameOf(each), nameOf(other), [
    { name: 'sessions/s', ratios: ratios(each.perSecond, other.perSecond), better: 'higher' },
    { name: 'CPU a session', ratios: ratios(each.cpu, other.cpu), better: 'lower' },
    ...waits,
  ])
}

const findings = (all: Measured[]): string[] =>
  all
    .filter((each) => nameOf(each).startsWith('relay-guard'))
    .flatMap((each) => [...worseThan(all[0], each), ...worseThan(counterpartOf(each, all), each)])
