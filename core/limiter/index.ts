// The limiter: one for all plugins of a process, over Redis with memory behind it, or over memory alone.
import cluster from 'node:cluster'
import { hostname } from 'node:os'
import { type Client, closeRedis, openRedis, whenReady } from '../redis/connection'
import type { RedisSettings } from '../redis/endpoint'
import type { Charge, CounterKey, Lease, Step, Store } from './contract'
import { Failover, within } from './failover'
import { Leases } from './leases'
import { MemoryClient } from './memory-ipc'
import { MemoryStore } from './memory-store'
import { RedisStore } from './redis-store'
import { Refusals } from './refusals'
import { type CheckResult, resultOf } from './result'
import { stepInParts } from './split-step'

export type { Charge, CounterKey, Lease } from './contract'
export { serveMemory } from './memory-ipc'
export { MemoryStore } from './memory-store'
export type { CheckResult, Refusal } from './result'

export interface LimiterOptions {
  settings: RedisSettings
  /** One line a change of state, e.g. `redis: down (…)`. */
  log(line: string): void
  /** In the master of a Haraka with several workers: the store that `serveMemory` serves. */
  memory?: MemoryStore
  /** HOST/PID: the first part of the ids of leases, and who sets blocks. */
  node?: string
}

export class Limiter {
  readonly node: string
  #store: Store
  #leases: Leases
  #refusals = new Refusals()
  #redis: Failover | undefined
  #shared: Failover | undefined
  #client: MemoryClient | undefined
  #connection: Client | undefined
  #timeout: number

  constructor({ settings, log, memory, node = `${hostname()}/${process.pid}` }: LimiterOptions) {
    const { timeout, prefix } = settings
    const held = () => this.#leases.held
    this.node = node
    this.#timeout = timeout
    this.#store = memory ?? new MemoryStore()
    if (cluster.isWorker) {
      this.#client = new MemoryClient()
      this.#shared = new Failover(this.#client, this.#store, { name: 'master', timeout, log, held })
      this.#store = this.#shared
    }
    if (settings.enabled) {
      this.#connection = openRedis(settings)
      const store = new RedisStore(this.#connection, { prefix, timeout })
      this.#redis = new Failover(store, this.#store, { name: 'redis', timeout, log, held })
      this.#store = this.#redis
    }
    this.#leases = new Leases(this.#store)
  }

  /** Resolves when Redis can be used; rejects after `ms` with why not. Without Redis at once. For commands, not hooks. */
  async ready(ms: number): Promise<void> {
    if (this.#connection) await whenReady(this.#connection, ms)
  }

  /** Who counts now. */
  get source(): 'redis' | 'memory' {
    return this.#redis?.up ? 'redis' : 'memory'
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
  async refund({ at, source, charged }: CheckResult, charges: Charge[] = charged): Promise<void> {
    if (!charges.length || source === 'remembered') return
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
    this.#redis?.close()
    this.#shared?.close()
    this.#client?.close()
    if (this.#connection) await closeRedis(this.#connection)
  }

  #step(op: Step['op'], charges: Charge[], leases: Lease[] = []): Step {
    return { op, charges, leases, by: this.node }
  }

  async #ask(step: Step): Promise<CheckResult> {
    if (!step.charges.length && !step.leases.length) return EMPTY
    return resultOf(step, await stepInParts(this.#store, step))
  }
}

const EMPTY: CheckResult = {
  allowed: true,
  refusals: [],
  states: [],
  slots: [],
  source: 'memory',
  charged: [],
  at: 0,
}
