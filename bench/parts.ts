// The parts of the benchmark: what each measures, in words, and how it is run.
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Child } from './child'
import type { Section } from './findings'
import { compareFloods } from './flood'
import { FLOOD_ADDRESSES } from './flood-setups'
import { compareGateways } from './gateway'
import { compareGrowth } from './growth'
import { growthGroups } from './growth-setups'
import { compareLimiters } from './limiter'
import type { Load, Report } from './load'
import { type Loader, STEADY } from './measure'
import { groups } from './session-setups'
import { compareSessions } from './sessions'
import { soak } from './soak'

const number = (name: string, fallback: number): number => Number(process.env[name]) || fallback

/** Rounds of throughput; the other parts take turns in proportion. BENCH_ROUNDS and BENCH_SECONDS make it longer. */
export const rounds = number('BENCH_ROUNDS', 7)
/** Seconds of each turn at low load and under flood. */
export const seconds = number('BENCH_SECONDS', 2)

/** A section of docs/benchmarks.md. */
export interface Part {
  name: string
  title: string
  /** What is measured, and how. */
  about: string
  measure: () => Promise<Section>
  /** Run by its name only. A whole run keeps its section of docs/benchmarks.md as it is. */
  onDemand?: true
}

/** A benchmark that is a program of its own, and prints tables. */
async function program(name: string): Promise<Section> {
  const run = promisify(execFile)
  const { stdout } = await run(process.execPath, [join(__dirname, `${name}.js`)], { maxBuffer: 1 << 24 })
  return { text: stdout, worse: [] }
}

/** Gives the work a load generator, a process of its own, and ends it. */
async function withLoader<T>(work: (loader: Loader) => Promise<T>): Promise<T> {
  const loader = Child.start<Load, Report>('load')
  try {
    return await work(loader)
  } finally {
    await loader.stop()
  }
}

/** Each of the groups in turn, with a load generator and a sink. */
async function inTurn<T>(
  all: T[],
  compare: (group: T, loader: Loader, sinkPort: number) => Promise<Section>,
): Promise<Section> {
  const sink = Child.start<object, number>('sink')
  try {
    const sinkPort = await sink.ask({})
    const sections: Section[] = []
    for (const group of all) {
      sections.push(await withLoader((loader) => compare(group, loader, sinkPort)))
    }
    return {
      text: sections.map(({ text }) => text).join('\n'),
      worse: sections.flatMap(({ worse }) => worse),
    }
  } finally {
    await sink.stop()
  }
}

const lowRounds = Math.ceil(rounds / 2)

/** In the order of docs/benchmarks.md. */
export const parts: Part[] = [
  {
    name: 'gateway',
    title: 'Beside other servers',
    about: `The same gateway three ways: takes mail for one domain from anybody within limits, and hands it to one next hop (smtp-sink). One message of 1 kB a connection, 20 connections at once; after 3,600 messages to warm up each; the clock stops when the next hop has all messages of the turn, as Postfix answers first and delivers later. All processes of a server may use all cores. Two loads: Postfix's own smtp-source, which takes next to nothing of the cores but comes from one address, so that a counter is asked for one client only; and ours from 2,000 addresses, which needs a part of the cores itself, and so makes differences look smaller. Postfix's queue is on the disk that holds the temporary directory, and each message is synced to it before it is answered; \`delivery = forward\` writes nothing, as the client waits until the next hop has answered. Stock smtp_forward here waits 40 ms for each message (its writes meet a delayed ACK).`,
    measure: () => withLoader((loader) => compareGateways(loader, Math.ceil(0.6 * rounds))),
  },
  {
    name: 'sessions',
    title: 'Whole sessions',
    about: `Connect, EHLO, MAIL, one RCPT, DATA, a message of 1 kB, QUIT, from 2,000 addresses in 250 networks. Sink and load run in processes of their own, rDNS is answered at once, the log stands at \`notice\`. The limits refuse nobody. "× stock" compares with the stock set-up that does the same. Redis commands are all that the server is sent, as its MONITOR shows them (heartbeats, statistics, and what goes out in batches shortly after included), at ${STEADY.perSecond} sessions a second for ${STEADY.seconds} s. "− bare" is how much longer it takes than with the bare set-up, in the same round, at the same part of the distribution: p50, p95, p99, each the median of ${lowRounds} rounds.`,
    measure: () =>
      inTurn(groups, (group, loader, sinkPort) =>
        compareSessions(group, loader, sinkPort, { rounds, lowRounds, seconds }),
      ),
  },
  {
    name: 'flood',
    title: 'Under flood',
    about: `50 connections at once, as fast as they go, beside a legitimate client with 50 sessions a second from 2,000 addresses and a process of its own. The ${FLOOD_ADDRESSES.toLocaleString('en')} addresses have used up what they may do, and have been refused once, before anything is measured. A refusal from memory is held for 0.2 s, which slows down those who wait for it, up to 500 at once; so the 5,000 come in a second flood with 600 at once. The cost of one refused connection is measured with nothing else going on, 8 at once of one address, 50 of many: of an address that is just over its limit, of one that has tried 5,000 times within the minute, and of the 5,000; its Redis commands, all kinds, over a flood of ${seconds} s.`,
    measure: () =>
      withLoader((legitimate) =>
        withLoader((flooder) => compareFloods(legitimate, flooder, Math.ceil(rounds / 3), seconds)),
      ),
  },
  {
    name: 'growth',
    title: 'Growth',
    about:
      'What one session costs when there is more of everything; sink, load and counting as in whole sessions.',
    measure: () =>
      inTurn(growthGroups, (group, loader, sinkPort) =>
        compareGrowth(group, loader, sinkPort, Math.ceil(rounds / 2)),
      ),
  },
  {
    name: 'limiter',
    title: 'The limiter alone',
    about:
      'Checks of one, three and six counters, without Haraka: each asks the store, no lease is taken. Medians of the rounds.',
    measure: () => compareLimiters(Math.ceil(rounds / 3)),
  },
  {
    name: 'acl-lookup',
    title: 'The ACL look-up',
    about:
      'Our table of prefixes beside the stock relay plugin, which tries its entries one after the other.',
    measure: () => program('acl-lookup'),
  },
  {
    name: 'callout',
    title: 'Recipient verification under a dictionary attack',
    about:
      '100,000 addresses that do not exist are asked for once each, by 50 sessions at once with 20 RCPT in one write, of a Haraka with 4 workers and Redis, and `questions = 20/1s`. Redis commands include those of its scripts. Counted is a question when it is granted; on a machine as busy as this (ten processes for each core) it comes to the next hop up to some tenths of a second later, so that more than 20 may arrive within one. Beside it RCPT for a known recipient, ten times a second.',
    measure: () => program('callout'),
  },
  {
    name: 'soak',
    title: 'The soak',
    about: `\`npm run bench soak\`, half an hour (SOAK_MINUTES). A Haraka with 4 workers and all lines, limits in Redis, is used by a fixed mix of sessions while Redis and four next hops (for \`delivery = forward\`, for \`queue\`, LMTP, and the outside: smarthost and receiver of DSNs) fail at random, from a fixed seed: dead, paused as a stopped process, full (421), deferring, refusing for good, hanging up between commands, hanging up after the final dot without an answer. Each message has a number, which the next hops look for in messages and DSNs. Haraka gives a queued message up after 8 retries within two and a half minutes here, so that DSNs for that come about. At the end everything is well again, and the queue drains.`,
    onDemand: true,
    measure: soak,
  },
]
