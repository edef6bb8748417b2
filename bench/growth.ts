// Growth: what a session costs when there is more of everything.
import { legend, median, ratios, show, shuffled, spread, table } from './figures'
import { type Section, worse } from './findings'
import { begin, type Cost, type Loader, startAll, throughput } from './measure'
import type { Group } from './setup'

const nameOf = ({ server }: Cost): string => server.setup.name

/** What this set-up is compared with: the same without this package, or the smallest of its group. */
const baseOf = (cost: Cost, all: Cost[]): Cost | undefined => {
  const { counterpart } = cost.server.setup
  const base = counterpart ? all.find((other) => nameOf(other) === counterpart) : all[0]
  return base === cost ? undefined : base
}

/** Runs one group and returns its table. All its set-ups are up all the time. */
export async function compareGrowth(
  group: Group,
  loader: Loader,
  sinkPort: number,
  rounds: number,
): Promise<Section> {
  const servers = await startAll(group.setups, sinkPort)
  try {
    const all: Cost[] = []
    for (const server of servers) all.push(await begin(server, loader))
    for (let round = 0; round < rounds; round++) {
      for (const cost of shuffled(all)) await throughput(cost, loader)
    }
    const text = [`### ${group.title}\n`, legend(group.setups), growthTable(all)].join('\n')
    return { text, worse: [...findings(group, all), ...servers.flatMap((server) => server.lostRedis())] }
  } finally {
    await Promise.all(servers.map((server) => server.stop()))
  }
}

function growthTable(all: Cost[]): string {
  const rows = all.map((cost) => {
    const base = baseOf(cost, all)
    return [
      nameOf(cost),
      spread(cost.perSecond),
      show(median(cost.cpu)),
      base ? spread(ratios(cost.cpu, base.cpu)) : '-',
      base ? nameOf(base) : '-',
      show(cost.commands),
      show(median(cost.redisCpu)),
    ]
  })
  return table(
    [
      'closed loop, 20 at once',
      'sessions/s',
      'CPU ms/session',
      '× CPU',
      'of',
      'Redis commands/session',
      'Redis CPU ms/session',
    ],
    rows,
  )
}

function findings({ title }: Group, all: Cost[]): string[] {
  return all.flatMap((cost) => {
    const base = baseOf(cost, all)
    if (!base || nameOf(cost).startsWith('bare')) return []
    const cpu = ratios(cost.cpu, base.cpu)
    return worse(`${title}, ${nameOf(cost)}`, nameOf(base), [
      { name: 'CPU a session', ratios: cpu, better: 'lower' },
    ])
  })
}
