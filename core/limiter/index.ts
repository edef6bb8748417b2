// The limiter: one for all plugins of a process, over Redis with memory behind it, or over memory alone.
import cluster from 'node:cluster'
import { hostname } from 'node:os'
import { type Client, closeRedis, openRedis, whenReady } from '../redis/connection'
import { printPlace, type RedisSettings } from '../redis/endpoint'
import type { Charge, CounterKey, Lease, Step, Store } from './contract'
import { Failover, START, within } from './failover'
import { Leases } from './leases'
import { MemoryClient } from './memory-ipc'
import { MemoryStore } from './memory-store'
import { RedisStore } from './redis-store'
import { Refusals } from './refusals'
import { type CheckResult, EMPTY, resultOf } from './result'
import { stepInParts } from './split-step'

export type { Charge, CounterKey, Lease } from './contract'
export { serveMemory } from './memory-ipc'
export { MemoryStore } from './memory-store'
export type { CheckResult, Refusal } from './result'

/** What a limiter needs of its process. */
export interface LimiterOptions {
  settings: RedisSettings
  /** One line a change of state, e.g. `redis: down (…)`. */
  log(line: string): void
  /** In the master of a Haraka with several workers: the store that `serveMemory` serves. */
  memory?: MemoryStore
  /** ms of a monotonic clock, by which refusals are remembered; for tests. */
  clock?: () => number
  /** HOST/PID: the first part of the ids of leases, and who sets blocks. */
  node?: string
}

/** Redis as the place where this process counts. */
interface InRedis {
  connection: Client
  store: RedisStore
  failover: Failover
  /** Ends the listening to the connection. */
  forget(): void
}

/** One a process: asks the store in use, holds the leases of open connections, and remembers refusals. */
export class Limiter {
  readonly node: string
  /** Where is counted now. */
  #store: Store
  /** What counts where there is no Redis: the memory of this process, or the master's with that behind it. */
  #memory: Store
  #leases: Leases
  #refusals: Refusals
  #redis: InRedis | undefined
  #shared: Failover | undefined
  #client: MemoryClient | undefined
  #timeout: number
  #log: (line: string) => void
  /** Where each result was charged. */
  #chargedIn = new WeakMap<CheckResult, Store>()
  #left: Promise<void> = Promise.resolve()

  constructor({ settings, log, memory, clock, node = `${hostname()}/${process.pid}` }: LimiterOptions) {
    const { timeout } = settings
    const held = () => this.#leases.held
    this.node = node
    this.#refusals = new Refusals(clock)
    this.#log = log
    this.#timeout = timeout
    this.#memory = memory ?? new MemoryStore()
    if (cluster.isWorker) {
      this.#client = new MemoryClient()
      this.#shared = new Failover(this.#client, this.#memory, { name: 'master', timeout, log, held })
      this.#memory = this.#shared
    }
    this.#redis = this.#open(settings)
    this.#store = this.#redis?.failover ?? this.#memory
    this.#leases = new Leases(this.#store)
  }

  /** `after`: until this has settled nothing is asked of that Redis. */
  #open(settings: RedisSettings, after?: Promise<unknown>): InRedis | undefined {
    if (!settings.enabled) return undefined
    const { timeout, prefix } = settings
    const connection = openRedis(settings)
    const store = new RedisStore(connection, { prefix, timeout })
    const failover = new Failover(store, this.#memory, {
      name: 'redis',
      where: printPlace(settings),
      timeout,
      log: this.#log,
      held: () => this.#leases.held,
      ...(after && { after }),
    })
    const check = () => void failover.check()
    const timer = setTimeout(check, START + 50).unref()
    connection.on('ready', check).on('close', check)
    if (connection.status === 'ready') check()
    const forget = () => {
      clearTimeout(timer)
      connection.off('ready', check).off('close', check)
    }
    return { connection, store, failover, forget }
  }

  /**
   * Counts by these settings from now on. The leases of open connections are taken along: they count in memory at
   * once, are given back where they were, and count in the new Redis before anybody asks there. Rates start anew.
   */
  use(settings: RedisSettings): void {
    const before = this.#redis
    const held = this.#leases.held
    this.#timeout = settings.timeout
    let isLeft = () => {}
    const left = new Promise<void>((resolve) => {
      isLeft = resolve
    })
    this.#redis = this.#open(settings, left)
    if (before && !this.#redis) this.#log('redis: off (redis.ini [redis] enabled = false)')
    this.#store = this.#redis?.failover ?? this.#memory
    before?.forget()
    before?.failover.close()
    const moved = this.#leases.moveTo(this.#store)
    this.#left = moved.then(async () => {
      if (before) await this.#leave(before, [...held, ...this.#leases.held])
      isLeft()
    })
  }

  async #leave({ store, connection }: InRedis, leases: Lease[]): Promise<void> {
    await within(this.#timeout, store.release(leases)).catch(() => {})
    await closeRedis(connection)
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

  /**
   * Checks and charges what one SMTP command touches, all or nothing. Leases are of one connection, and are held
   * until `release`. Never rejects, and never waits longer than the timeout of each store.
   */
  async check(charges: Charge[], leases: Lease[] = []): Promise<CheckResult> {
    const step = this.#step('check', charges, leases)
    const known = this.#refusals.find(step)
    if (known.length) {
      return {
        op: 'check',
        allowed: false,
        refusals: known,
        states: [],
        slots: [],
        source: 'remembered',
        charged: [],
        at: Date.now(),
      }
    }
    const verdict = await this.#leases.take(leases, () => this.#ask(step))
    this.#refusals.remember(verdict.refusals)
    return verdict
  }

  /** Counts without refusing: failed logins, refused recipients, bytes at the end of the data. */
  async charge(charges: Charge[]): Promise<CheckResult> {
    return this.#ask(this.#step('charge', charges))
  }

  /** Gives back what a check charged, or some of it, for instance for a recipient that is then refused. */
  async refund(result: CheckResult, charges: Charge[] = result.charged): Promise<void> {
    const { at, source } = result
    if (!charges.length || source === 'remembered') return
    const isElsewhere = (this.#chargedIn.get(result) ?? this.#store) !== this.#store
    // Charged in a Redis that was left since: it cannot be given back there, and must not be given back here.
    if (isElsewhere && source === 'redis') return
    await stepInParts(this.#store, { ...this.#step('refund', charges), at, source })
  }

  /** What a check would answer; nothing is charged or remembered. */
  async dryRun(charges: Charge[], leases: Lease[] = []): Promise<CheckResult> {
    return this.#ask(this.#step('dry-run', charges, leases))
  }

  /** Gives back the leases of a connection, also those still being taken. */
  release(id: string): void {
    for (const lease of this.#leases.release(id)) this.#refusals.freed(lease)
  }

  /** Refuses everything of a subject for `ms`. Other processes know within 5 s. */
  async block({ scope, subject }: CounterKey, ms: number, reason: string, by = this.node): Promise<void> {
    const since = Date.now()
    this.#refusals.forget({ scope, subject })
    await this.#store.block({ scope, subject, reason, since, until: since + ms, by })
  }

  /** Ends a block. Other processes know within 5 s. */
  async unblock(subject: CounterKey): Promise<void> {
    await this.#store.unblock(subject)
    this.#refusals.forget(subject)
  }

  /** Forgets all that was counted for a subject. Other processes know within 5 s. */
  async reset(subject: CounterKey): Promise<void> {
    await this.#store.reset(subject)
    this.#refusals.forget(subject)
  }

  /** For a new configuration: nothing is refused by the old one. */
  forgetRefusals(): void {
    this.#refusals.clear()
  }

  /** Gives back all leases and the connection. */
  async close(): Promise<void> {
    await within(this.#timeout, this.#leases.close()).catch(() => {})
    this.#redis?.forget()
    this.#redis?.failover.close()
    this.#shared?.close()
    this.#client?.close()
    await this.#left
    if (this.#redis) await closeRedis(this.#redis.connection)
  }

  #step(op: Step['op'], charges: Charge[], leases: Lease[] = []): Step {
    return { op, charges, leases, by: this.node }
  }

  async #ask(step: Step): Promise<CheckResult> {
    if (!step.charges.length && !step.leases.length) return EMPTY
    const store = this.#store
    const result = resultOf(step, await stepInParts(store, step))
    this.#chargedIn.set(result, store)
    return result
  }
}
