// The tables of "under flood".
import { latency, latencyCompared, median, PART_NAMES, ratios, show, spread, table } from './figures'
import { worse } from './findings'
import { FLOOD_ADDRESSES } from './flood-setups'
import type { Server } from './server'

/** A flooder for whom it does not matter that each refusal is held for a moment. */
export const MANY_AT_ONCE = 600
/** Connections of the address that does not give up. */
export const TRIES = 5000

export const manyAtOnce = `${FLOOD_ADDRESSES} addresses, ${MANY_AT_ONCE} at once` as const
export const kinds = ['alone', 'one address', `${FLOOD_ADDRESSES} addresses`, manyAtOnce] as const
/** What goes on beside the legitimate client. */
export type Kind = (typeof kinds)[number]

export const afterTries = `address after ${TRIES} tries` as const
export const costs = ['fresh address', afterTries, `${FLOOD_ADDRESSES} addresses`] as const
/** Whose connection is refused. */
export type CostOf = (typeof costs)[number]

/** What the legitimate client saw, by round. */
export interface Noticed {
  sessions: number[][]
  greetings: number[][]
  floodPerSecond: number[]
  lost: number
}

/** Of one refused connection: a number a round, and its Redis commands, which are counted once. */
export interface Refusal {
  cpu: number[]
  greeting: number[]
  commands: number | undefined
}

/** All that is measured of one set-up. */
export interface Measured {
  server: Server
  noticed: Record<Kind, Noticed>
  refusals: Record<CostOf, Refusal>
}

/** The legitimate sessions' p50, p95 and p99, each as a ratio to those of the other set-up in the same round. */
const sessionRatios = (measured: Measured, other: Measured, kind: Kind): number[][] =>
  latencyCompared(ratios, measured.noticed[kind].sessions, other.noticed[kind].sessions)

/** What the legitimate client noticed. */
export function noticedTable(all: Measured[]): string {
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

/** What a refused connection costs. */
export function refusalTable(all: Measured[]): string {
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

/** Where this package's limits did worse than the others. */
export function findings(all: Measured[]): string[] {
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
