// What the soak has shown, as a section of docs/benchmarks.md.
import { show } from './figures'
import type { Section } from './findings'
import type { Event } from './soak-chaos'
import type { Ledger } from './soak-ledger'
import type { SoakReport } from './soak-load'
import { medians, type Watched } from './soak-watch'

export interface SoakResult {
  seconds: number
  perSecond: number
  seed: number
  report: SoakReport
  events: Event[]
  watched: Watched[]
  ledger: Ledger
  /** Seconds until the queue was empty; undefined where it never was. */
  drained: number | undefined
  /** Workers that ended. */
  died: number
  /** Lines of the log that speak of a program error. */
  failures: string[]
}

/**
 * Memory is flat when no slice after the warm-up is this part above the first one, of all processes together: of one the
 * moments of V8's collections move it more than that.
 */
const TOLERANCE = 0.1
const SLICES = 5
/** Seconds until what is kept of clients and V8's heap have their size; of a trial half of it. */
const WARM_UP = 300
/** Files that may be open at the end above those at the start: connections kept for the next message. */
const KEPT_FILES = 20

const count = (number: number): string => number.toLocaleString('en')
const row = (...cells: (string | number)[]): string => `| ${cells.join(' | ')} |`
const table = (head: string[], rows: string[]): string =>
  [row(...head), `|${'---|'.repeat(head.length)}`, ...rows].join('\n')

function sessionTable({ ends, sessions }: SoakReport): string {
  const rows = Object.entries(ends).map(([kind, { fine, refused, cut }]) =>
    row(kind, count(fine), count(refused), count(cut)),
  )
  return `${count(sessions)} sessions:\n\n${table(['session', 'to its end', 'refused on the way', 'cut'], rows)}`
}

function troubleTable(events: Event[]): string {
  const byWho = new Map<string, Map<string, number>>()
  for (const { who, what } of events) {
    const of = byWho.get(who) ?? new Map<string, number>()
    byWho.set(who, of.set(what, (of.get(what) ?? 0) + 1))
  }
  const rows = [...byWho].map(([who, whats]) => {
    const mine = events.filter((event) => event.who === who)
    const seconds = mine.reduce((sum, { from, until }) => sum + until - from, 0)
    const list = [...whats].map(([what, times]) => `${what} ${times} ×`).join(', ')
    return row(who, list, show(seconds))
  })
  return table(['what failed', 'how', 'seconds in all'], rows)
}

/** All processes as one, at the moments when the first was looked at. */
function together(watched: Watched[]): Watched {
  const samples = (watched[0]?.samples ?? []).map(({ at }, index) => {
    const sum = (what: 'memory' | 'files') =>
      watched.reduce((total, { samples }) => total + (samples[index]?.[what] ?? 0), 0)
    return { at, memory: sum('memory'), files: sum('files') }
  })
  return { name: 'all together', pid: 0, samples }
}

function memoryTable(
  watched: Watched[],
  seconds: number,
): { text: string; isFlat: boolean; isTight: boolean } {
  let isFlat = false
  let isTight = true
  const rows = [...watched, together(watched)].map((each) => {
    const { samples, name } = each
    const slices = medians(each, { from: Math.min(WARM_UP, seconds / 2), until: seconds, slices: SLICES })
    const growth = Math.max(...slices) / (slices[0] ?? Number.NaN) - 1
    const memory = samples.map((sample) => sample.memory)
    const files = samples.map((sample) => sample.files)
    if (each.pid === 0) isFlat = growth <= TOLERANCE
    else if ((files.at(-1) ?? 0) > (files[0] ?? 0) + KEPT_FILES) isTight = false
    return row(
      name,
      `${show(Math.min(...memory))} to ${show(Math.max(...memory))}`,
      slices.map(show).join(', '),
      `${(growth * 100).toFixed(1)} %`,
      `${files[0]}, ${Math.max(...files)}, ${files.at(-1)}`,
    )
  })
  const head = [
    'process',
    'MiB, least to most',
    `MiB, medians of ${SLICES} parts after the warm-up`,
    'most above the first',
    'open files: start, most, end',
  ]
  return { text: table(head, rows), isFlat, isTight }
}

function ledgerTable(ledger: Ledger): string {
  const rows: [string, number][] = [
    ['accepted by us (250 after the dot)', ledger.accepted],
    ['delivered', ledger.delivered],
    ['sender told by a DSN', ledger.told],
    ['delivered to one recipient, sender told of the other', ledger.both],
    ['**lost**', ledger.lost.length],
    ['**delivered or told twice**', ledger.twice.length],
    ['**refused by us, yet delivered**', ledger.refusedYetDelivered.length],
    [
      'twice, as a next hop went away after the dot and before its answer got out (RFC 1047)',
      ledger.twiceUnanswered,
    ],
  ]
  return table(
    ['messages', ''],
    rows.map(([name, number]) => row(name, count(number))),
  )
}

/** The tables, each with its verdict; sets the process's exit status to 1 where one is bad. */
export function describeSoak(result: SoakResult): Section {
  const { seconds, perSecond, seed, report, events, ledger, drained, died, failures } = result
  const { text: memory, isFlat, isTight } = memoryTable(result.watched, seconds)
  const faults = [ledger.lost, ledger.twice, ledger.refusedYetDelivered]
  const verdicts: [string, boolean][] = [
    [
      'every accepted message was delivered once or its sender told',
      faults.every((each) => each.length === 0),
    ],
    ['the resident memory of all processes together was flat within 10 % after the warm-up', isFlat],
    ['no descriptor leaked', isTight],
    ['the queue drained', drained !== undefined],
    ['no worker ended', died === 0],
    ['no program error was logged', failures.length === 0],
  ]
  const numbers = faults.flatMap((each) => each.slice(0, 10))
  if (!verdicts.every(([, isGood]) => isGood)) process.exitCode = 1
  const text = [
    `${seconds / 60} minutes, seed ${seed}; ${show(report.sessions / seconds)} sessions a second of the ${perSecond} that were due.${drained === undefined ? '' : ` The queue was empty ${show(Math.round(drained))} s after the last session.`}`,
    ...verdicts.map(([what, isGood]) => `- ${isGood ? 'Yes' : '**No**'}: ${what}`),
    ...(numbers.length ? [`Messages: ${numbers.join(', ')}`] : []),
    ...failures.slice(0, 5).map((line) => `    ${line}`),
  ].join('\n')
  return {
    text: [
      text.replace('\n- ', '\n\n- '),
      ledgerTable(ledger),
      memory,
      sessionTable(report),
      troubleTable(events),
    ].join('\n\n'),
    worse: [],
  }
}
