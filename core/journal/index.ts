// What operators read in Redis: statistics, the subjects with the most, the newest decisions, and who is running.
// Written once a second beside the SMTP path; nothing waits for it, and nothing breaks when it fails.
import { hostname } from 'node:os'
import type { DecisionRecord } from '../decision'
import type { LogSettings } from '../redis/config'
import { type Client, closeRedis, openRedis } from '../redis/connection'
import type { RedisSettings } from '../redis/endpoint'
import { type Keys, makeKeys } from '../redis/keys'
import { loadScript, run } from '../redis/script'
import { Sample } from './sample'
import { type Count, Tally } from './tally'

/** Between two batches, in ms. */
const EVERY = 1000
/** Subjects written in one batch: a flood from thousands of addresses must not become a flood of Redis. */
const SUBJECTS = 50
/** Members of a `top` set. */
const KEPT = 1000
/** Seconds. */
const TTL = 90 * 86_400
const NODE_TTL = 30
/** Between two writings of the node's key, in ms, while it counts where it counted. */
const NODE_EVERY = 10_000
/** After so many ms without an answer a batch is given up. */
const GIVE_UP = 10_000
/** What is left at the end is written within so many ms, or lost. */
const LAST = 500
/** Between two log lines about failures, in ms. */
const COMPLAIN_EVERY = 3_600_000

const tallyScript = loadScript(__dirname, 'tally')

/** What a worker tells of itself. */
export interface NodeState {
  version: string
  /** Where it counts now. */
  store: 'redis' | 'memory'
  connections: number
  /** The hash of its configuration: equal on workers that decide alike. */
  configuration: string
}

export interface JournalOptions {
  settings: RedisSettings
  /** What the stream holds; asked each time, so that a reload counts at once. */
  stream(): LogSettings
  state(): NodeState
  /** One line an hour at most: Redis takes the counters but not what is written here. */
  log(line: string): void
}

export class Journal {
  #client: Client | undefined
  #keys: Keys
  #tally = new Tally()
  #sample: Sample
  #since = new Date().toISOString()
  #timer: NodeJS.Timeout | undefined
  #sending: Promise<void> | undefined
  #sentAt = 0
  #toldAt = Number.NEGATIVE_INFINITY
  #toldStore: NodeState['store'] | undefined
  #complainedAt = Number.NEGATIVE_INFINITY

  /** Without Redis (`enabled = false`) nothing is kept or written. */
  constructor(private readonly options: JournalOptions) {
    const { settings } = options
    this.#keys = makeKeys(settings.prefix)
    this.#sample = new Sample(`${hostname()}/${process.pid}`)
    if (!settings.enabled) return
    this.#client = openRedis(settings)
    this.#timer = setInterval(() => void this.flush(), EVERY).unref()
  }

  /** False while Redis is away, or switched off: then what is noted waits, or is not kept at all. */
  get connected(): boolean {
    return this.#client?.status === 'ready'
  }

  /** Takes a decision, for the next batch. Cheap, and never throws. */
  note(decision: DecisionRecord): void {
    if (!this.#client) return
    const { time, outcome, accepted, ip, subject = ip } = decision
    this.#tally.add(time, outcome, subject)
    if (!accepted || this.options.stream().accepted) this.#sample.add(decision, subject)
  }

  /**
   * Writes what has come together, if Redis is there and has answered the batch before. What was sent is forgotten,
   * whatever comes of it: so nothing is counted twice.
   */
  async flush(subjects = SUBJECTS): Promise<void> {
    // Back after it was away, Redis may know nothing of this worker.
    if (!this.connected) this.#toldAt = Number.NEGATIVE_INFINITY
    const now = performance.now()
    const busy = this.#sending && now - this.#sentAt < GIVE_UP
    if (!this.#client || !this.connected || busy) return
    this.#sentAt = now
    const sending = this.#send(this.#client, subjects).catch((error) => this.#complain(error))
    this.#sending = sending
    await sending
    if (this.#sending === sending) this.#sending = undefined
  }

  /** Writes the rest, and gives the connection back. */
  async close(): Promise<void> {
    clearInterval(this.#timer)
    const client = this.#client
    if (!client) return
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, LAST)
    })
    await Promise.race([this.#finish(), late])
    clearTimeout(timer)
    this.#client = undefined
    await closeRedis(client)
  }

  async #finish(): Promise<void> {
    await this.#sending
    await this.flush(Number.POSITIVE_INFINITY)
  }

  /** One command a key, so that on a Cluster each finds its node. */
  async #send(client: Client, subjects: number): Promise<void> {
    const counts = this.#tally.take(subjects)
    const entries = this.#sample.take(Date.now())
    const { log, stats, top } = this.#keys
    const add = (key: string, command: string, ttl: number, pairs: unknown[][]) =>
      run(client, tallyScript, [key], [command, ttl, KEPT, ...pairs.flat().map(String)])
    const sent: Promise<unknown>[] = []
    for (const [key, of] of byKey(counts.outcomes, ({ day }) => stats(day))) {
      const pairs = of.map(({ outcome, count }) => [outcome, count])
      sent.push(add(key, 'HINCRBY', TTL, pairs))
    }
    for (const [key, of] of byKey(counts.subjects, ({ day, outcome }) => top(outcome, day))) {
      const pairs = of.map(({ subject, count }) => [count, subject])
      sent.push(add(key, 'ZINCRBY', TTL, pairs))
    }
    if (entries.length) sent.push(append(client, log, this.options.stream().length, entries))
    const now = this.options.state()
    if (performance.now() - this.#toldAt >= NODE_EVERY || now.store !== this.#toldStore) {
      this.#toldAt = performance.now()
      this.#toldStore = now.store
      const state = Object.entries({ ...now, since: this.#since })
      sent.push(add(this.#keys.node(hostname(), process.pid), 'HSET', NODE_TTL, state))
    }
    for (const result of await Promise.allSettled(sent))
      if (result.status === 'rejected') this.#complain(result.reason)
  }

  #complain(error: unknown): void {
    if (performance.now() - this.#complainedAt < COMPLAIN_EVERY) return
    this.#complainedAt = performance.now()
    this.options.log(`redis: statistics and log could not be written (${String(error)})`)
  }
}

async function append(client: Client, key: string, length: number, entries: string[][]): Promise<void> {
  const pipeline = client.pipeline()
  for (const entry of entries) pipeline.xadd(key, 'MAXLEN', '~', length, '*', ...entry)
  const failed = (await pipeline.exec())?.find(([error]) => error)
  if (failed) throw failed[0]
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
