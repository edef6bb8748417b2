// What a limiter is asked and what it answers: the contract of both stores.
import type { Rate } from './rate'

/** Who is counted, as in the Redis key `{ip:203.0.113.9}`: `{ scope: 'ip', subject: '203.0.113.9' }`. */
export interface CounterKey {
  scope: string
  subject: string
}

/** One counter and what it is to be charged. An unlimited one is not counted, but a block of its subject holds. */
export interface Charge extends CounterKey {
  what: string
  /** Messages, recipients, bytes: a whole number, 0 or more. */
  cost: number
  limit: Rate
  /** Counts and reports, but never refuses. */
  shadow?: boolean | undefined
  /** Must have room for the cost, but is not charged: what is counted only later, as failed logins. */
  checkOnly?: boolean | undefined
  /** May be given back at any moment, by any process: that it was refused is not remembered. */
  brief?: boolean | undefined
  /** May be given back at any moment: that it was refused is not remembered for long. */
  refundable?: boolean | undefined
  /** Once over, everything of this subject is refused for so long, in ms. */
  block?: number | undefined
  /** A worker may take so much of it in advance at once, and spend it without asking; not given: nothing. */
  advance?: number | undefined
  /** A check of it need not be of this moment, as long as not more than half is used: it is only counted after the fact. */
  glance?: boolean | undefined
  /** In a step: so much is wanted in advance. A store may grant less, or nothing, and never refuses because of it. */
  extra?: number | undefined
  /** In a step: of what was granted to the worker before, so much is used, or in a refund given back. */
  settled?: number | undefined
  /** In a step, for `settled` and a refund: when that was charged, unix ms of the store's clock. */
  at?: number | undefined
}

/** A charge with every field there is, so that V8 reads and copies all of them as objects of one shape. */
export const newCharge = (
  { scope, subject }: CounterKey,
  what: string,
  limit: Rate,
  cost: number,
): Charge => ({
  scope,
  subject,
  what,
  cost,
  limit,
  shadow: undefined,
  checkOnly: undefined,
  brief: undefined,
  refundable: undefined,
  block: undefined,
  advance: undefined,
  glance: undefined,
  extra: undefined,
  settled: undefined,
  at: undefined,
})

/** What a worker was given in advance. It is charged, and may be used until the current tenth of the window ends. */
export interface Grant {
  amount: number
  /** When it was charged, unix ms of the store's clock. */
  at: number
  /** When that tenth ends at the earliest: ms of `performance.now`, a little early rather than late. */
  until: number
}

/** A slot among the concurrent connections of a subject. */
export interface Lease extends CounterKey {
  /** HOST/PID/UUID of the connection. */
  id: string
  /** At most so many at once. */
  limit: number
}

/** How long a lease lasts without a heartbeat, in ms. */
export const LEASE = 60_000

/** A subject of which everything is refused for a while. */
export interface Block extends CounterKey {
  reason: string
  /** Unix ms. */
  since: number
  until: number
  /** Who set it: HOST/PID, or the operator. */
  by: string
}

/**
 * What one SMTP command touches. `check`: all or nothing. `charge`: counted without refusing. `refund`: given back
 * to the bucket that was charged (`at`), leases too. `dry-run`: what a check would answer; nothing is written.
 */
export interface Step {
  op: 'check' | 'charge' | 'refund' | 'dry-run'
  charges: Charge[]
  leases: Lease[]
  /** When a refund was charged: `at` of that answer. A charge may have its own. */
  at?: number
  /** A check that would be refused asks the workers first for what they hold in advance: see `recalled`. */
  recall?: boolean
  /** Who charged it, for a refund. */
  source?: Source
  /** Who sets the blocks of this step: HOST/PID. */
  by: string
}

/** How a counter stands, in the window that decides: the one that takes longest if refused, else the fullest. */
export interface CounterState {
  /** Over its limit. For a shadow charge, too. */
  refused: boolean
  /** In this window, with this charge if it was charged. */
  used: number
  limit: number
  /** As `1h`; '' for an unlimited one. */
  window: string
  /** ms until this cost would fit; NEVER if it is more than the whole limit; 0 if it fits. */
  retryAfter: number
  /** Of `used`, what workers hold in advance, where it is refused: they may give it back. */
  ahead?: number
  /** What was given in advance, if anything was. */
  granted?: Grant
}

/** In place of ms: this cost never fits, as it is more than the whole limit. */
export const NEVER = -1

/** Who counts: Redis, or the memory of this host. */
export type Source = 'redis' | 'memory'

/** A store's answer, but for `source` equal in both stores. Standings and slots are in the order of the step's charges and leases. */
export interface Answer {
  allowed: boolean
  /** Not allowed for now: workers were asked to give back what they hold in advance. Nothing was done. */
  recalled?: boolean
  /** The store's clock, unix ms. */
  at: number
  states: CounterState[]
  slots: { refused: boolean; used: number }[]
  blocks: Block[]
  source: Source
}

/** `now` (unix ms) is for tests; without it, the store's own clock. */
export interface Store {
  step(step: Step, now?: number): Promise<Answer>
  /** Lengthens leases, and adds those that are lost. */
  renew(leases: Lease[], now?: number): Promise<void>
  release(leases: Lease[]): Promise<void>
  block(block: Block, now?: number): Promise<void>
  unblock(subject: CounterKey): Promise<void>
  /** Forgets all that was counted for a subject. Blocks and leases stay. */
  reset(subject: CounterKey): Promise<void>
}

/** What a block that a counter sets is called. */
export const blockReason = (what: string): string => `too many ${what.replaceAll(' ', '-')}`

/** A step with so many charges and leases is looked through faster without an index. */
const SHORT = 32

/** The subjects of a step, each once, in the order they first appear. */
export function keysOf({ charges, leases }: Pick<Step, 'charges' | 'leases'>): CounterKey[] {
  const seen = new Map<string, Set<string>>()
  const subjects: CounterKey[] = []
  const isShort = charges.length + leases.length <= SHORT
  const see = ({ scope, subject }: CounterKey) => {
    if (isShort) {
      for (const each of subjects) if (each.subject === subject && each.scope === scope) return
      subjects.push({ scope, subject })
      return
    }
    const before = seen.get(scope)
    if (before?.has(subject)) return
    if (before) before.add(subject)
    else seen.set(scope, new Set([subject]))
    subjects.push({ scope, subject })
  }
  charges.forEach(see)
  leases.forEach(see)
  return subjects
}
