// Beside other servers: the same gateway by Postfix, by stock Haraka and by this package, turn by turn, until the next
// hop has each message.
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { CountingSink } from './counting-sink'
import { legend, median, ratios, show, shuffled, spread, table } from './figures'
import { type Section, worse } from './findings'
import { type System, startSystems, unavailable } from './gateway-systems'
import type { Loader } from './measure'

const run = promisify(execFile)

const AT_ONCE = 20
const BATCH = 600
/** Before anything is measured: the code of two Node.js workers is compiled after some thousand sessions only. */
const WARM_UP_ROUNDS = 3
const ADDRESSES = 2000

const LOADS = ['smtp-source', `${ADDRESSES} addresses`] as const
type LoadName = (typeof LOADS)[number]

type Send = (port: number) => Promise<unknown>

/** How each load sends a batch. Rejects when a message is refused. */
const senders = (loader: Loader): Record<LoadName, Send> => ({
  'smtp-source': (port) =>
    run('smtp-source', [
      ...['-N', '-s', `${AT_ONCE}`, '-m', `${BATCH}`, '-l', '1000'],
      ...['-M', 'client.example', '-f', 'ann@client.example', '-t', 'bob@local.test', `127.0.0.1:${port}`],
    ]),
  [`${ADDRESSES} addresses`]: async (port) => {
    const load = { network: '127.21', addresses: ADDRESSES, atOnce: AT_ONCE, sessions: BATCH }
    const { mailed } = await loader.ask({ ...load, port })
    if (mailed < BATCH) throw new Error(`${mailed} of ${BATCH} messages were taken`)
  },
})

/** A number a round. */
interface Figures {
  perSecond: number[]
  cpu: number[]
}

interface Measured extends Record<LoadName, Figures> {
  system: System
}

class Gateway {
  readonly #send: Record<LoadName, Send>

  constructor(
    private readonly sink: CountingSink,
    loader: Loader,
  ) {
    this.#send = senders(loader)
  }

  /** Sends a batch and waits until all of it has arrived at the next hop: seconds and ms of CPU. */
  async batch({ port, cpu, name }: System, load: LoadName): Promise<{ seconds: number; cpu: number }> {
    const [start, before, received] = [performance.now(), cpu(), this.sink.received]
    try {
      await Promise.all([this.#send[load](port), this.sink.until(received + BATCH)])
    } catch (error) {
      throw new Error(`${name}, ${load}: ${error}`)
    }
    return { seconds: (performance.now() - start) / 1000, cpu: cpu() - before }
  }

  async round(measured: Measured): Promise<void> {
    for (const load of LOADS) {
      const { seconds, cpu } = await this.batch(measured.system, load)
      measured[load].perSecond.push(BATCH / seconds)
      measured[load].cpu.push(cpu / BATCH)
    }
  }
}

const unmeasured = (system: System): Measured => ({
  system,
  'smtp-source': { perSecond: [], cpu: [] },
  [`${ADDRESSES} addresses`]: { perSecond: [], cpu: [] },
})

/** Runs the comparison and returns its tables; one line where Postfix cannot be started. */
export async function compareGateways(loader: Loader, rounds: number): Promise<Section> {
  const reason = unavailable()
  if (reason) return { text: `Not measured here: ${reason}.`, worse: [] }
  const sink = await CountingSink.start()
  try {
    const systems = await startSystems(sink.port)
    try {
      return await measure(systems, new Gateway(sink, loader), rounds)
    } finally {
      await Promise.all(systems.map((system) => system.stop()))
    }
  } finally {
    await sink.stop()
  }
}

async function measure(systems: System[], gateway: Gateway, rounds: number): Promise<Section> {
  for (let round = 0; round < WARM_UP_ROUNDS; round++) {
    for (const system of systems) await gateway.round(unmeasured(system))
  }
  const all = systems.map(unmeasured)
  for (let round = 0; round < rounds; round++) {
    for (const each of shuffled(all)) await gateway.round(each)
  }
  const text = [legend(systems), ...LOADS.map((load) => figuresTable(all, load))].join('\n')
  const lost = LOADS.flatMap((load) => findings(all, load))
  return { text, worse: [...lost, ...systems.flatMap((system) => system.lostRedis())] }
}

const [POSTFIX, STOCK] = [0, 1]

function figuresTable(all: Measured[], load: LoadName): string {
  const rows = all.map((each) => {
    const against = (other: Measured | undefined, what: keyof Figures) =>
      other && other !== each ? spread(ratios(each[load][what], other[load][what])) : '-'
    return [
      each.system.name,
      spread(each[load].perSecond),
      against(all[POSTFIX], 'perSecond'),
      against(all[STOCK], 'perSecond'),
      show(median(each[load].cpu)),
      against(all[POSTFIX], 'cpu'),
    ]
  })
  return table([load, 'messages/s', '× Postfix', '× stock Haraka', 'CPU ms/message', '× Postfix'], rows)
}

function findings(all: Measured[], load: LoadName): string[] {
  const others = [all[POSTFIX], all[STOCK]].filter((other) => other !== undefined)
  return all.slice(STOCK + 1).flatMap((each) =>
    others.flatMap((other) => {
      const [ours, theirs] = [each[load], other[load]]
      return worse(`${each.system.name} (${load})`, other.system.name, [
        { name: 'messages/s', ratios: ratios(ours.perSecond, theirs.perSecond), better: 'higher' },
        { name: 'CPU a message', ratios: ratios(ours.cpu, theirs.cpu), better: 'lower' },
      ])
    }),
  )
}
