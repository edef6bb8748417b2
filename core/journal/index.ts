// What operators read in Redis: statistics, the subjects with the most, the newest decisions, and who is running.
// Written once a second beside the SMTP path; nothing waits for it, and nothing breaks when it fails.
import { hostname } from 'node:os'
import type { DecisionRecord } from '../decision'
import type { LogSettings } from '../redis/config'
import { type Client, closeRedis, openRedis } from '../redis/connection'
import type { RedisSettings } from '../redis/endpoint'
import { printError } from '../redis/errors'
import { type Keys, makeKeys } from '../redis/keys'
import { addTo, appendTo, sendBatch, type Write } from './batch'
import { Sample } from './sample'
import { type Count, Tally } from './tally'

/** Between two batches, in ms. */
const EVERY = 1000
/** Subjects written in one batch: a flood from thousands of addresses must not become a flood of Redis. */
const SUBJECTS = 50
/** Seconds. */
const TTL = 90 * 86_400
const NODE_TTL = 30
/** Between two writings of the node's key, in ms, while it counts where it counted and is as overloaded as it was. */
const NODE_EVERY = 10_000
/** After this many ms without an answer the next batch is sent all the same. */
const GIVE_UP = 10_000
/** What is left at the end is written within this many ms, or lost. */
const LAST = 500
/** Between two log lines about failures, in ms. */
const COMPLAIN_EVERY = 3_600_000
/** A batch that is kept is worth a line when this many in a row were. */
const KEPT_IN_A_ROW = 5

/** What a worker tells of itself. */
export interface NodeState {
  version: string
  /** Where it counts now. */
  store: 'redis' | 'memory'
  connections: number
  /** What is over its mark (overload.ini), with the figures; '' where nothing is. Left out without relay-guard/overload. */
  overload?: string
  /** The hash of its configuration: equal on workers that decide alike. */
  configuration: string
}

/** Time; tests bring their own. */
export interface Clock {
  /** ms, never set. */
  now(): number
  /** Calls again and again, `ms` apart. Returns how to end it. */
  every(ms: number, call: () => void): () => void
}

const realClock: Clock = {
  now: () => performance.now(),
  every(ms, call) {
    const timer = setInterval(call, ms).unref()
    return () => clearInterval(timer)
  },
}

/** What the journal needs of the process around it. */
export interface JournalOptions {
  settings: RedisSettings
  /** What the stream holds; asked each time, so that a reload counts at once. */
  stream(): LogSettings
  state(): NodeState
  /** One line an hour at most: Redis takes the counters but not what is written here. */
  log(line: string): void
  /** A batch could not be written; whether Redis is down is for others to find out. */
  onFailure?(): void
  clock?: Clock
}

interface Target {
  client: Client
  keys: Keys
}

/** One a process. Without Redis (`enabled = false`) nothing is kept or written. */
export class Journal {
  #target: Target | undefined
  #tally = new Tally()
  #sample = new Sample(`${hostname()}/${process.pid}`)
  #since = new Date().toISOString()
  #clock: Clock
  #end: () => void
  #sending: Promise<void> | undefined
  #sentAt = 0
  #toldAt = Number.NEGATIVE_INFINITY
  /** Where it counted then, and whether anything was over its mark: a change is told at once. */
  #told = ''
  #complainedAt = Number.NEGATIVE_INFINITY
  #keptInARow = 0

  /** Opens the connection, which is shared with the limiter. */
  constructor(private readonly options: JournalOptions) {
    this.#clock = options.clock ?? realClock
    this.#target = openTarget(options.settings)
    this.#end = this.#clock.every(EVERY, () => void this.flush())
  }

  /** False while Redis is away, or switched off: then what is noted waits, or is not kept at all. */
  get connected(): boolean {
    return this.#target?.client.status === 'ready'
  }

  /** Writes by these settings from now on: what is not written yet goes to the new Redis; without one, to the old. */
  use(settings: RedisSettings): void {
    const before = this.#target
    const rest = settings.enabled ? this.#sending : this.#finish(before)
    this.#target = openTarget(settings)
    this.#toldAt = Number.NEGATIVE_INFINITY
    if (before) void atMost(LAST, rest).then(() => closeRedis(before.client))
  }

  /** Takes a decision, for the next batch. Cheap, and never throws. */
  note(decision: DecisionRecord): void {
    if (!this.#target) return
    const { time, outcome, accepted, ip, subject = ip } = decision
    this.#tally.add(time, outcome, subject)
    if (!accepted || this.options.stream().accepted) this.#sample.add(decision, subject)
  }

  /** Writes what has come together, if Redis is there and has answered the batch before. Never rejects. */
  async flush(subjects = SUBJECTS): Promise<void> {
    await this.#flush(this.#target, subjects)
  }

  /** Writes the rest, and gives the connection back. */
  async close(): Promise<void> {
    this.#end()
    const target = this.#target
    if (!target) return
    await atMost(LAST, this.#finish(target))
    this.#target = undefined
    await closeRedis(target.client)
  }

  async #flush(target: Target | undefined, subjects: number): Promise<void> {
    const now = this.#clock.now()
    // Back after it was away, Redis may know nothing of this worker.
    if (target?.client.status !== 'ready') this.#toldAt = Number.NEGATIVE_INFINITY
    const isBusy = this.#sending && now - this.#sentAt < GIVE_UP
    if (target?.client.status !== 'ready' || isBusy) return
    this.#sentAt = now
    const sending = this.#send(target, subjects, now)
    this.#sending = sending
    await sending
    if (this.#sending === sending) this.#sending = undefined
  }

  async #finish(target: Target | undefined): Promise<void> {
    await this.#sending
    await this.#flush(target, Number.POSITIVE_INFINITY)
  }

  async #send({ client, keys }: Target, subjects: number, now: number): Promise<void> {
    const { kept, lost } = await sendBatch(client, [...this.#take(keys, subjects), ...this.#node(keys, now)])
    this.#keptInARow = kept === undefined ? 0 : this.#keptInARow + 1
    if (kept !== undefined || lost !== undefined) this.options.onFailure?.()
    if (lost !== undefined) this.#complain(lost, '')
    else if (this.#keptInARow >= KEPT_IN_A_ROW) this.#complain(kept, '; what is kept is written later')
  }

  #take({ log, stats, top }: Keys, subjects: number): Write[] {
    const counts = this.#tally.take(subjects)
    const entries = this.#sample.take(Date.now())
    const writes: Write[] = []
    for (const [key, of] of byKey(counts.outcomes, ({ day }) => stats(day))) {
      const pairs = of.map(({ outcome, count }) => [outcome, count])
      writes.push({ send: addTo(key, 'HINCRBY', TTL, pairs), putBack: () => this.#tally.putBack(of) })
    }
    for (const [key, of] of byKey(counts.subjects, ({ day, outcome }) => top(outcome, day))) {
      const pairs = of.map(({ subject, count }) => [count, subject])
      writes.push({ send: addTo(key, 'ZINCRBY', TTL, pairs), putBack: () => this.#tally.putBack(of) })
    }
    const putBack = () => this.#sample.putBack(entries)
    if (entries.length) writes.push({ send: appendTo(log, this.options.stream().length, entries), putBack })
    return writes
  }

  /** The node's key, where it is time for it. */
  #node(keys: Keys, now: number): Write[] {
    const state = this.options.state()
    const told = `${state.store} ${Boolean(state.overload)}`
    if (now - this.#toldAt < NODE_EVERY && told === this.#told) return []
    this.#toldAt = now
    this.#told = told
    const putBack = () => {
      this.#toldAt = Number.NEGATIVE_INFINITY
    }
    const fields = Object.entries({ ...state, since: this.#since })
    return [{ send: addTo(keys.node(hostname(), process.pid), 'HSET', NODE_TTL, fields), putBack }]
  }

  #complain(error: unknown, more: string): void {
    const now = this.#clock.now()
    if (now - this.#complainedAt < COMPLAIN_EVERY) return
    this.#complainedAt = now
    this.options.log(`redis: statistics and log could not be written (${printError(error)})${more}`)
  }
}

function openTarget(settings: RedisSettings): Target | undefined {
  return settings.enabled ? { client: openRedis(settings), keys: makeKeys(settings.prefix) } : undefined
}

/** Resolves when the promise has settled, and after `ms` at the latest. */
async function atMost(ms: number, promise: Promise<unknown> | undefined): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms)
  })
  await Promise.race([promise, late])
  clearTimeout(timer)
}

function byKey(counts: Count[], keyOf: (count: Count) => string): Map<string, Count[]> {
  const groups = new Map<string, Count[]>()
  for (const count of counts) {
    const key = keyOf(count)
    const group = groups.get(key)
    if (group) group.push(count)
    else groups.set(key, [count])
  }
  return groups
}
