// A load generator, in a process of its own: closed loop (so many at once) or open loop (so many a second, come what may).
import { setTimeout as sleep } from 'node:timers/promises'
import { addressAt } from './addresses'
import { answerQuestions } from './child'
import { converse, type Ended, type Phase, phases } from './dialogue'

/** Who connects. */
export interface Clients {
  /** The first two octets of their addresses, how many there are, and the number of the first. */
  network: string
  addresses: number
  first?: number
  /** Their recipients are spread over d0.local.test, d1.local.test, ...; without it all are at local.test. */
  domains?: number
}

export interface Load extends Clients {
  port: number
  /** Closed loop: sessions at once. */
  atOnce?: number
  /** Open loop: sessions a second. */
  perSecond?: number
  /** It ends after so many sessions, or so many seconds. */
  sessions?: number
  seconds?: number
}

export interface Report {
  seconds: number
  mailed: number
  refused: number
  failed: number
  times: Record<Phase, number[]>
}

/** Prime, and so all addresses take turns, and sessions that follow each other come from far apart. */
const STRIDE = 101

function clientAt(at: number, { port, network, addresses, first = 0, domains }: Load) {
  const number = first + ((at * STRIDE) % addresses)
  const domain = domains ? `d${(at * STRIDE) % domains}.local.test` : 'local.test'
  return {
    port,
    from: addressAt(network, number),
    sender: `sender${number}@client.example`,
    recipient: `user${at % 100}@${domain}`,
  }
}

// Goes on where the last load ended, so that the addresses take turns.
let number = 0

async function closedLoop(load: Load, ended: (end: Ended) => void): Promise<void> {
  const until = performance.now() + (load.seconds ?? Number.POSITIVE_INFINITY) * 1000
  let left = load.sessions ?? Number.POSITIVE_INFINITY
  const one = async () => {
    while (left-- > 0 && performance.now() < until) ended(await converse(clientAt(number++, load)))
  }
  await Promise.all(Array.from({ length: load.atOnce ?? 1 }, one))
}

async function openLoop(load: Load, ended: (end: Ended) => void): Promise<void> {
  const { perSecond = 1, seconds = 1 } = load
  const start = performance.now()
  const running: Promise<void>[] = []
  for (let at = 0; at < perSecond * seconds; at++) {
    const wait = start + (at * 1000) / perSecond - performance.now()
    if (wait > 0) await sleep(wait)
    running.push(converse(clientAt(number++, load)).then(ended))
  }
  await Promise.all(running)
}

async function run(load: Load): Promise<Report> {
  const times = Object.fromEntries(phases.map((phase) => [phase, []])) as unknown as Report['times']
  const report: Report = { seconds: 0, mailed: 0, refused: 0, failed: 0, times }
  const ended = (end: Ended) => {
    report[end.outcome]++
    for (const phase of phases) {
      const time = end.times[phase]
      if (time !== undefined) times[phase].push(time)
    }
  }
  const start = performance.now()
  await (load.perSecond === undefined ? closedLoop : openLoop)(load, ended)
  report.seconds = (performance.now() - start) / 1000
  return report
}

if (require.main === module) answerQuestions(run)
