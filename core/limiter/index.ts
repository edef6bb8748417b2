// The limiter: one for all plugins of a process, over Redis with memory behind it, or over memory alone.
import cluster from 'node:cluster'
import { hostname } from 'node:os'
import { whenReady } from '../redis/connection'
import type { RedisSettings } from '../redis/endpoint'
import { tagOf } from '../redis/keys'
import type { Hearer } from '../redis/listener'
import type { Charge, CounterKey, Lease, Step, Store } from './contract'
import { Failover, within } from './failover'
import { InRedis } from './in-redis'
import { MemoryClient } from './memory-ipc'
import { MemoryStore } from './memory-store'
import { Refusals } from './refusals'
import type { CheckResult } from './result'
import { WorkerCounts } from './worker-counts'

export type { Charge, CounterKey, Lease } from './contract'
export { serveMemory } from './memory-ipc'
export { MemoryStore } from './memory-store'
export type { CheckResult, Refusal } from './result'

/** Where nothing is heard of `unblock` and `reset`, the store is asked again after so many ms. */
const UNHEARD = 5000

/** What a limiter needs of its process. */
export interface LimiterOptions {
  settings: RedisSettings
  /** One line a change of state, e.g. `redis: down (…)`. */
  log(line: string): void
  /** What was refused may be allowed now: to the subject with this tag (`{ip:203.0.113.9}`), or to all. */
  onForget?(tag?: string): void
  /** In the master of a Haraka with several workers: the store that `serveMemory` serves. */
  memory?: MemoryStore
  /** ms of a monotonic clock, by which refusals are remembered; for tests. */
  clock?: () => number
  /** HOST/PID: the first part of the ids of leases, and who sets blocks. */
  node?: string
}

/** One a process: asks the store in use, holds the leases of open connections, and remembers refusals. */
export class Limiter {
  readonly node: string
  /** Where is counted now. */
  #store: Store
  /** What counts where there is no Redis: the memory of this process, or the master's with that behind it. */
  #memory: Store
  #counts: WorkerCounts
  #refusals: Refusals
  #redis: InRedis | undefined
  #shared: Failover | undefined
  #client: MemoryClient | undefined
  #timeout: number
  #log: (line: string) => void
  #onForget: (tag?: string) => void
  #left: Promise<void> = Promise.resolve()

  constructor(options: LimiterOptions) {
    const { settings, log, memory, clock, node = `${hostname()}/${process.pid}` } = options
    const { timeout } = settings
    const held = () => this.#counts.leases.held
    this.node = node
    this.#refusals = new Refusals(clock)
    this.#log = log
    this.#onForget = options.onForget ?? (() => undefined)
    this.#timeout = timeout
    this.#memory = memory ?? new MemoryStore()
    if (cluster.isWorker) {
      this.#client = new MemoryClient()
      this.#shared = new Failover(this.#client, this.#memory, { name: 'master', timeout, log, held })
      this.#memory = this.#shared
    }
    this.#redis = this.#open(settings)
    this.#store = this.#redis?.failover ?? this.#memory
    this.#counts = new WorkerCounts(this.#store)
  }

  #open(settings: RedisSettings, after?: Promise<unknown>): InRedis | undefined {
    if (!settings.enabled) return undefined
    return new InRedis({
      settings,
      memory: this.#memory,
      log: this.#log,
      held: () => this.#counts.leases.held,
      hearer: this.#hearer,
      onClockStep: () => void this.#counts.flush(),
      ...(after && { after }),
    })
  }

  #hearer: Hearer = {
    listen: (isListening) => {
      this.#counts.budgets.listen(isListening)
      if (isListening) return
      void this.#counts.flush()
      this.#refusals.clear()
      this.#onForget()
    },
    changed: (tag) => {
      this.#counts.budgets.changed(tag)
      this.#forget(tag)
    },
    reset: (tag) => {
      this.#counts.budgets.reset(tag)
      if (tag === undefined) this.#refusals.clear()
      this.#forget(tag)
    },
    recalled: (tag) => this.#counts.recalled(tag),
    knowBlocks: (tags) => this.#counts.budgets.knowBlocks(tags),
    failed: (reason) =>
      this.#log(`redis: cannot listen (${reason}): every step asks Redis, nothing is counted in advance`),
  }

  /**
   * Counts by these settings from now on. The leases of open connections are taken along: they count in memory at
   * once, are given back where they were, and count in the new Redis before anybody asks there. Rates start anew.
   */
  use(settings: RedisSettings): void {
    const before = this.#redis
    // Gives back what was taken in advance.
    before?.stopListening()
    const held = this.#counts.leases.held
    this.#timeout = settings.timeout
    let isLeft = () => {}
    const left = new Promise<void>((resolve) => {
      isLeft = resolve
    })
    this.#redis = this.#open(settings, left)
    if (before && !this.#redis) this.#log('redis: off (redis.ini [redis] enabled = false)')
    this.#store = this.#redis?.failover ?? this.#memory
    before?.stop()
    const moved = this.#counts.moveTo(this.#store)
    this.#left = moved.then(async () => {
      await before?.close([...held, ...this.#counts.leases.held])
      isLeft()
    })
  }

  /** Tries Redis, where something else has found a failure: if it is one of the counters, too, it is logged as down. */
  checkRedis(): void {
    void this.#redis?.failover.check()
  }

  /** Resolves when Redis can be used; rejects after `ms` with why not. Without Redis at once. For commands, not hooks. */
  async ready(ms: number): Promise<void> {
    if (this.#redis) await whenReady(this.#redis.connection, ms)
  }

  /** Who counts now. */
  get source(): 'redis' | 'memory' {
    return this.#redis?.failover.up ? 'redis' : 'memory'
  }

  /** So long, in ms, a refusal may be remembered: `onForget` tells if it ends before. */
  get remembersFor(): number {
    return this.#counts.budgets.isListening ? Number.POSITIVE_INFINITY : UNHEARD
  }

  /**
   * Checks and charges what one SMTP command touches, all or nothing. Leases are of one connection, and are held
   * until `release`. `prefetch`: what this session will need next, with the amount as its cost; it is taken in advance
   * where Redis is asked anyway and there is room. Never rejects, and never waits longer than the timeout of each store
   * and, near a limit, some tens of ms for what others hold.
   */
  async check(charges: Charge[], leases: Lease[] = [], prefetch?: () => Charge[]): Promise<CheckResult> {
    const remembered = this.remembered(charges, leases)
    if (remembered) return remembered
    const result = await this.#counts.check(this.#step('check', charges, leases), prefetch)
    if (!result.isStale) this.#refusals.remember(result.refusals, this.remembersFor)
    return result
  }

  /** The refusal of a check, where an earlier one says that it would be refused; undefined if the store must say. */
  remembered(charges: Charge[], leases: Lease[] = []): CheckResult | undefined {
    const refusals = this.#refusals.find(this.#step('check', charges, leases))
    if (refusals.length === 0) return undefined
    return {
      op: 'check',
      allowed: false,
      refusals,
      states: [],
      slots: [],
      source: 'remembered',
      charged: [],
    }
  }

  /** Counts without refusing: failed logins, refused recipients, bytes at the end of the data. */
  async charge(charges: Charge[]): Promise<CheckResult> {
    return this.#counts.ask(this.#step('charge', charges))
  }

  /** Gives back what a check charged, for instance for a recipient that is then refused. */
  async refund(result: CheckResult): Promise<void> {
    await this.#counts.refund(result, this.#step('refund', []))
  }

  /** What a check would answer; nothing is charged or remembered. */
  async dryRun(charges: Charge[], leases: Lease[] = []): Promise<CheckResult> {
    return this.#counts.dryRun(this.#step('dry-run', charges, leases))
  }

  /** Gives back the leases of a connection, also those still being taken. */
  release(id: string): void {
    for (const lease of this.#counts.leases.release(id)) this.#refusals.freed(lease)
  }

  /** Refuses everything of a subject for `ms`. Other processes hear of it, or know within 5 s. */
  async block({ scope, subject }: CounterKey, ms: number, reason: string, by = this.node): Promise<void> {
    const since = Date.now()
    const tag = tagOf(scope, subject)
    this.#counts.budgets.changed(tag)
    this.#forget(tag)
    await this.#store.block({ scope, subject, reason, since, until: since + ms, by })
  }

  /** Ends a block. Other processes hear of it, or know within 5 s. */
  async unblock(subject: CounterKey): Promise<void> {
    await this.#store.unblock(subject)
    this.#forget(tagOf(subject.scope, subject.subject))
  }

  /** Forgets all that was counted for a subject. Other processes hear of it, or know within 5 s. */
  async reset(subject: CounterKey): Promise<void> {
    await this.#store.reset(subject)
    const tag = tagOf(subject.scope, subject.subject)
    this.#counts.budgets.reset(tag)
    this.#forget(tag)
  }

  /** For a new configuration: nothing is refused by the old one. */
  forgetRefusals(): void {
    this.#refusals.clear()
  }

  /** Gives back all leases and the connection. */
  async close(): Promise<void> {
    await within(this.#timeout, this.#counts.close()).catch(() => {})
    this.#redis?.stop()
    this.#shared?.close()
    this.#client?.close()
    await this.#left
    await this.#redis?.close()
  }

  #step(op: Step['op'], charges: Charge[], leases: Lease[] = []): Step {
    return { op, charges, leases, by: this.node }
  }

  #forget(tag?: string): void {
    if (tag !== undefined) this.#refusals.forget(tag)
    this.#onForget(tag)
  }
}
