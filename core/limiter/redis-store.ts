// The Redis store: one command a step; on a Cluster one a subject, side by side.
import type { Cluster, Redis } from 'ioredis'
import { whyAway } from '../redis/connection'
import { makeKeys } from '../redis/keys'
import { globOf, mastersOf, scanKeys } from '../redis/scan'
import { run } from '../redis/script'
import {
  type Answer,
  type Block,
  type Charge,
  type CounterKey,
  keysOf,
  LEASE,
  type Lease,
  type Step,
} from './contract'
import { type Blame, type Primary, START } from './failover'
import { parseRate } from './rate'
import { gather, partsOf } from './split-step'
import { makeCall, readReply, scripts } from './step-script'

/** Leases in one command of a heartbeat: so many take Redis well under a millisecond. */
const BATCH = 100
/**
 * What `probe` writes: always the same few counters, which end by themselves after a second. So many that on a Cluster
 * every node has some.
 */
const PROBES: Charge[] = Array.from({ length: 32 }, (_, i) => ({
  scope: 'probe',
  subject: `${i}`,
  what: 'probe',
  cost: 1,
  limit: parseRate('1000/1s'),
}))
/** Errors in a script that say that Redis takes no writes, or does not let us: those of the step itself are others. */
const OF_THE_STORE =
  /OOM|READONLY|LOADING|MASTERDOWN|MISCONF|NOREPLICAS|CLUSTERDOWN|BUSY|NOPERM|NOAUTH|ACL|can't run/
const OF_A_SCRIPT = /WRONGTYPE|user_script|[Rr]unning script/

/** How the store names its keys, and how long its callers wait. */
export interface RedisStoreOptions {
  prefix: string
  /** A step that Redis runs later than so many ms after it was sent does nothing: its sender no longer waits. */
  timeout: number
  /** The clock of Redis was set: tenths of windows end at other times than answers before have said. */
  onClockStep?(): void
}

/** Clocks drift: a step of the clock is more than this, ms. */
const STEP = 5

/** Redis ran the step after its sender had given up, and so did nothing. */
class TooLate extends Error {}

class NotConnected extends Error {}

/** Deletes the keys of one node that begin with `prefix`. */
async function forget(node: Redis, prefix: string): Promise<void> {
  for await (const keys of scanKeys(node, `${globOf(prefix)}*`)) if (keys.length) await node.unlink(keys)
}

/** A store in Redis, shared by all workers and servers. Rejects where Redis does not answer. */
export class RedisStore implements Primary {
  readonly source = 'redis'
  #names
  /** The server's clock minus `performance.now`, in ms: at most one round trip too much. */
  #ahead: number | undefined
  /** The least that it can have been at the last answer. */
  #atLeast = Number.NEGATIVE_INFINITY
  #since = performance.now()
  #answered = false

  constructor(
    private readonly client: Redis | Cluster,
    private readonly options: RedisStoreOptions,
  ) {
    this.#names = makeKeys(options.prefix)
  }

  async step(step: Step, now?: number): Promise<Answer> {
    if (this.client.status !== 'ready') throw new NotConnected(whyAway(this.client))
    if (!this.client.isCluster) return this.#send(step, now)
    const parts = partsOf(step, 1)
    const answers = await Promise.allSettled(parts.map((part) => this.#send(part.step, now)))
    const { answer, undo, error } = gather(step, parts, answers)
    // What one node charged is given back where another refused or failed.
    const undone = Promise.allSettled(undo.map((back) => this.#send(back, now)))
    if (!answer) throw error
    await undone
    return answer
  }

  async renew(leases: Lease[], now?: number): Promise<void> {
    await this.#each(leases, (batch) => {
      const keys = batch.map(({ scope, subject }) => this.#names.concurrent(scope, subject))
      return run(this.client, scripts.renew, keys, [now ?? '', LEASE, ...batch.map(({ id }) => id)])
    })
  }

  async release(leases: Lease[]): Promise<void> {
    await this.#each(leases, (batch) => this.#send({ op: 'refund', charges: [], leases: batch, by: '' }))
  }

  async block({ scope, subject, reason, since, until, by }: Block): Promise<void> {
    const key = this.#names.block(scope, subject)
    const both = this.client
      .multi()
      .hset(key, { reason, since, until, by })
      .pexpire(key, until - since)
    for (const [error] of (await both.exec()) ?? []) if (error) throw error
    this.#tell(key)
  }

  async unblock({ scope, subject }: CounterKey): Promise<void> {
    const key = this.#names.block(scope, subject)
    await this.client.del(key)
    this.#tell(key)
  }

  /** Looks through all keys, a thousand at a time: for commands of an operator. */
  async reset({ scope, subject }: CounterKey): Promise<void> {
    const prefix = this.#names.rate(scope, subject, '')
    await Promise.all(mastersOf(this.client).map((node) => forget(node, prefix)))
    this.#tell(prefix)
  }

  /** Other processes need not wait until they ask again. Where it fails they do. */
  #tell(key: string): void {
    this.client.publish(this.#names.blocks, key).catch(() => {})
  }

  /** Rejects while Redis takes no writes. It does not depend on the step that failed. */
  async probe(): Promise<void> {
    const charges = this.client.isCluster ? PROBES : PROBES.slice(0, 1)
    await this.step({ op: 'charge', charges, leases: [], by: '' })
  }

  blame(error: unknown): Blame {
    const starting =
      error instanceof NotConnected && !this.#answered && performance.now() - this.#since < START
    if (starting || error instanceof TooLate) return 'nobody'
    const text = error instanceof Error ? error.message : ''
    return OF_A_SCRIPT.test(text) && !OF_THE_STORE.test(text) ? 'step' : 'store'
  }

  async #send(step: Step, now?: number): Promise<Answer> {
    const sent = performance.now()
    const subjects = keysOf(step)
    const known = now === undefined && this.#ahead !== undefined
    const deadline = known ? Math.ceil(sent + this.#ahead! + this.options.timeout) : undefined
    const { keys, args } = makeCall(this.#names, step, subjects, now, deadline)
    const reply = await run(this.client, scripts.step, keys, [args])
    this.#answered = true
    if (now === undefined) this.#learn(reply, sent)
    const answer = readReply(step, subjects, reply, sent)
    if (!answer) throw new TooLate('answered too late')
    return answer
  }

  /** On a Cluster the fastest clock counts, so that no node takes a step for late that is not. */
  #learn(reply: unknown, sent: number): void {
    const ahead = Array.isArray(reply) ? Number(reply[0]) - sent : 0
    const before = this.#ahead ?? ahead
    if (this.client.isCluster) {
      this.#ahead = Math.max(ahead, before)
      return
    }
    const atLeast = ahead - (performance.now() - sent)
    const isStep = ahead < this.#atLeast - STEP || atLeast > before + STEP
    this.#ahead = ahead
    this.#atLeast = atLeast
    if (isStep) this.options.onClockStep?.()
  }

  async #each(leases: Lease[], send: (batch: Lease[]) => Promise<unknown>): Promise<void> {
    const size = this.client.isCluster ? 1 : BATCH
    const sent: Promise<unknown>[] = []
    for (let i = 0; i < leases.length; i += size) sent.push(send(leases.slice(i, i + size)))
    await Promise.all(sent)
  }
}
