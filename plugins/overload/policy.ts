// Whether this server can take more mail now: what is measured, seen against its marks.
import type { Decision } from '../../core/decision'
import { FILE, KINDS, type Kind, LINES, type Mark, type OverloadConfig } from './config'

/** Of a file system, bytes or inodes: what may still be written, of all. */
export interface Space {
  free: number
  total: number
}

/** What is known now. Undefined: cannot be told, or does not exist there; nobody is refused for it. */
export interface Measurements {
  disk: Space | undefined
  inodes: Space | undefined
  /** Messages waiting. `atLeast`: there are more, nobody has counted further. */
  queue: { count: number; atLeast: boolean } | undefined
  /** Of this worker. */
  connections: number
  /** Event loop delay, ms. */
  delay: number
  /** Resident, bytes. */
  memory: number
}

/** 0: fine. 1: over the mark, strangers are refused. 2: over 1.2 times the mark, [relay] clients and users are, too. */
export type Level = 0 | 1 | 2

/** How it is with one kind: its level, and the figure with its mark, e.g. `disk 410M free (min 1G)`. */
export interface State {
  level: Level
  figure: string
}

/** Of the kinds that have a mark and can be measured. */
export type States = Partial<Record<Kind, State>>

/** How far [relay] clients and users get beyond the mark, and where a state ends. */
const BEYOND = 1.2
const END = 0.8

/** `load`: the measurement as a part of its mark. Each level ends at 80 % of where it begins, so that it does not flap. */
export function nextLevel(before: Level, load: number): Level {
  if (load > BEYOND || (before === 2 && load > BEYOND * END)) return 2
  return load > 1 || (before > 0 && load > END) ? 1 : 0
}

/** Files of the queue and the spool: without room for a message nobody can hand one in. */
const isDisk = (kind: Kind) => kind === 'disk' || kind === 'inodes' || kind === 'queue'

/** The states that follow from what is measured now and the states before. */
export function nextStates(config: OverloadConfig, before: States, measured: Measurements): States {
  const states: States = {}
  for (const kind of KINDS) {
    const mark = config[kind]
    const load = mark && loadOf(kind, mark, measured)
    if (load === undefined) continue
    const level = nextLevel(before[kind]?.level ?? 0, load)
    states[kind] = { level, figure: figureOf(kind, mark!, measured) }
  }
  return states
}

/** What must stay free, in bytes or inodes. */
export const leastOf = ({ limit, isPercent }: Mark, { total }: Space): number =>
  isPercent ? (total * limit) / 100 : limit

/** The more is free, the smaller it is: 1 at the mark. */
function loadOf(kind: Kind, mark: Mark, measured: Measurements): number | undefined {
  if (kind === 'disk' || kind === 'inodes') {
    const space = measured[kind]
    return space && leastOf(mark, space) / Math.max(space.free, 0)
  }
  const value = kind === 'queue' ? measured.queue?.count : measured[kind]
  return value === undefined ? undefined : value / mark.limit
}

/** Who wants what: a connection, or to hand a message in. */
export interface Asking {
  stage: 'connect' | 'mail'
  /** The client came to port 587 or 465. */
  isSubmission: boolean
  /** In [relay], or logged in: refused last. */
  isKnown: boolean
}

/** Undefined: may go on. Load is judged once: at connect, and on ports 587 and 465, where one logs in first, at MAIL. */
export function judge(states: States, { stage, isSubmission, isKnown }: Asking): Decision | undefined {
  for (const kind of KINDS) {
    const state = states[kind]
    if (!state || state.level === 0) continue
    if (isDisk(kind) ? stage !== 'mail' : (stage === 'mail') !== isSubmission) continue
    if (isDisk(kind) || !isKnown || state.level === 2) return refusal(kind, stage, state.figure)
  }
  return undefined
}

const TEXTS: Record<Kind, string> = {
  disk: 'Not enough disk space',
  inodes: 'Not enough disk space',
  queue: 'Too many messages are waiting here',
  connections: 'Too many connections',
  delay: 'Too busy',
  memory: 'Too busy',
}

/** The figures are for the log: a stranger need not know them. */
export function refusal(kind: Kind, stage: Asking['stage'], figure: string): Decision {
  const { section, key } = LINES[kind]
  const reply = isDisk(kind) ? { code: 452, status: '4.3.1' } : { code: 421, status: '4.3.2', close: true }
  return {
    outcome: stage === 'connect' ? 'connection.overload' : 'message.overload',
    ...reply,
    text: `${TEXTS[kind]}, try again later`,
    rule: { file: FILE, section, key },
    detail: figure,
  }
}

/** What a message still needs of a file system, and what others are about to write there; bytes or inodes. */
export interface Claim {
  need: number
  others: number
}

/** Whether as much as the mark says stays free when all is written. */
export const fits = (mark: Mark, space: Space, { need, others }: Claim): boolean =>
  space.free - others - need >= leastOf(mark, space)

/** `disk 410M free (min 1G)`, `queue 20311 files (max 20000)`. */
function figureOf(kind: Kind, { text, isPercent }: Mark, measured: Measurements): string {
  const { queue, connections, delay, memory } = measured
  if (kind === 'disk' || kind === 'inodes')
    return `${kind} ${printFree(measured[kind]!, isPercent, kind === 'disk')} free (min ${text})`
  const values = {
    queue: queue?.atLeast ? `more than ${queue.count - 1} files` : `${queue?.count} files`,
    connections: `${connections}`,
    delay: `${Math.round(delay)}ms`,
    memory: printSize(memory),
  }
  return `${kind} ${values[kind]} (max ${text})`
}

function printFree({ free, total }: Space, isPercent: boolean, isBytes: boolean): string {
  if (isPercent) return `${((100 * free) / total).toFixed(1)}%`
  return isBytes ? printSize(free) : String(free)
}

/** `1.3G`, `410M`, `12K`. */
export function printSize(bytes: number): string {
  for (const [unit, size] of [
    ['G', 2 ** 30],
    ['M', 2 ** 20],
  ] as const)
    if (bytes >= size) return `${(bytes / size).toFixed(bytes < 10 * size ? 1 : 0)}${unit}`
  return `${Math.round(bytes / 1024)}K`
}
