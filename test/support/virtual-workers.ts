// Many workers over one real Redis, in virtual time: their timers, `performance.now` and the clock that the script is given
// all go by the test's steps, so that minutes pass in a moment and any interleaving comes again with its seed.
import { mock } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import { Budget } from '../../core/limiter/budget'
import type { Charge, Lease } from '../../core/limiter/contract'
import { Failover } from '../../core/limiter/failover'
import { MemoryStore } from '../../core/limiter/memory-store'
import { RedisStore } from '../../core/limiter/redis-store'
import type { CheckResult } from '../../core/limiter/result'
import { WorkerCounts } from '../../core/limiter/worker-counts'
import { makeKeys, tagOf } from '../../core/redis/keys'
import { keepingKeys } from './kept-keys'
import { START } from './limiter-contract'
import type { Spend } from './spends'

const PREFIX = 'test:'
const TIMEOUT = 250
export const names = makeKeys(PREFIX)
const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve))

/** One worker, or a process that was killed. */
export interface VirtualWorker {
  counts: WorkerCounts
  isAlive: boolean
  check(charges: Charge[], prefetch?: () => Charge[], leases?: Lease[]): Promise<CheckResult>
}

/** What a run of virtual workers is made of. */
export interface WorldOptions {
  count: number
  random: () => number
  /** ms that a command is on its way, each way, at most. */
  latency?: number
  /** The part of recalls that a worker does not hear. */
  lost?: number
  /** The workers hear nothing at all, and so must hold nothing. */
  isDeaf?: boolean
}

/** The workers, their time, and the exact log of what got through. */
export class World {
  readonly workers: VirtualWorker[] = []
  readonly spends = new Map<string, Spend[]>()
  /** Commands that Redis was sent. */
  commands = 0
  /** All budgets that were ever filled, by the worker that holds them. */
  readonly budgets = new Map<Budget, VirtualWorker>()
  private readonly redis: Redis
  #now = 0
  /** The clock of Redis minus the time of the test. */
  #ahead = START
  #sending = 0
  /** Who is being told an answer of Redis. */
  #learning: VirtualWorker | undefined

  constructor(
    redis: Redis,
    private readonly options: WorldOptions,
  ) {
    this.redis = keepingKeys(redis)
    mock.timers.enable({ apis: ['setTimeout', 'setInterval'] })
    mock.method(performance, 'now', () => this.#now)
    const { budgets } = this
    const add = Budget.prototype.add
    const current = () => this.#learning
    mock.method(Budget.prototype, 'add', function (this: Budget, ...args: Parameters<Budget['add']>) {
      const worker = current()
      if (worker && !budgets.has(this)) budgets.set(this, worker)
      add.apply(this, args)
    })
    for (let i = 0; i < options.count; i++) this.addWorker()
  }

  /** Unix ms by the clock of Redis. */
  get serverNow(): number {
    return this.#now + this.#ahead
  }

  /** ms of a clock that nobody sets. */
  get steadyNow(): number {
    return this.#now
  }

  /** What live workers may still spend without asking. */
  get held(): number {
    let held = 0
    for (const [{ left }, { isAlive }] of this.budgets) if (isAlive) held += left
    return held
  }

  /** The same with what they have asked for and not been answered yet. */
  get heldSoon(): number {
    let held = 0
    for (const [{ left, pending }, { isAlive }] of this.budgets) if (isAlive) held += left + pending
    return held
  }

  /** Sets the clock of Redis forward or back by so many ms. */
  stepClock(ms: number): void {
    this.#ahead += ms
  }

  addWorker(): VirtualWorker {
    const state = { isAlive: true }
    let counts: WorkerCounts | undefined
    const client: Redis = Object.create(this.redis)
    // ioredis gives `call` several signatures; run() uses this one.
    client.call = ((name: string, args: (string | number)[]) =>
      this.#carry(name, args, worker)) as unknown as Redis['call']
    const onClockStep = () => void counts?.flush()
    const store = new RedisStore(client, { prefix: PREFIX, timeout: TIMEOUT, onClockStep })
    const held = () => counts?.leases.held ?? []
    const log = () => {}
    counts = new WorkerCounts(
      new Failover(store, new MemoryStore(), { name: 'redis', timeout: TIMEOUT, log, held }),
    )
    const learn = counts.budgets.learn.bind(counts.budgets)
    counts.budgets.learn = (...args) => {
      this.#learning = worker
      return learn(...args)
    }
    const worker: VirtualWorker = Object.assign(state, {
      counts,
      check: (charges: Charge[], prefetch?: () => Charge[], leases: Lease[] = []) =>
        this.#check(worker, charges, prefetch, leases),
    })
    counts.budgets.listen(!this.options.isDeaf)
    this.workers.push(worker)
    return worker
  }

  /** It ends without a word: nothing of it is sent any more, and nothing reaches it. */
  kill(worker: VirtualWorker): void {
    worker.isAlive = false
    this.workers.splice(this.workers.indexOf(worker), 1)
  }

  /** Lets so many ms pass, and all that happens in them. */
  async pass(ms: number, step = 1): Promise<void> {
    const end = this.#now + ms
    while (this.#now < end) {
      const by = Math.min(step, end - this.#now)
      this.#now += by
      mock.timers.tick(by)
      await this.settle()
    }
  }

  /** Waits for whatever Redis was sent, and for what follows from it at this moment. */
  async settle(): Promise<void> {
    do await nextTurn()
    while (this.#sending > 0)
  }

  /** Waits for these, while time passes. */
  async finish<T>(promises: Promise<T>[]): Promise<T[]> {
    let isDone = false
    const all = Promise.all(promises).finally(() => {
      isDone = true
    })
    while (!isDone) await this.pass(1)
    return all
  }

  /** All give back what they hold. */
  async flush(): Promise<void> {
    await this.finish(this.workers.map(({ counts }) => counts.flush()))
  }

  /** Undoes what `check` gave, also in the log. */
  async refund({ counts }: VirtualWorker, result: CheckResult): Promise<void> {
    for (const { charge } of result.charged) {
      const log = this.#logOf(charge)
      const spend = this.#spendsOf.get(result)?.get(nameOf(charge))
      if (spend) log.splice(log.indexOf(spend), 1)
    }
    await counts.refund(result, { op: 'refund', charges: [], leases: [], by: '' })
  }

  close(): void {
    mock.timers.reset()
    mock.restoreAll()
  }

  #spendsOf = new WeakMap<CheckResult, Map<string, Spend>>()

  async #check(
    worker: VirtualWorker,
    charges: Charge[],
    prefetch: (() => Charge[]) | undefined,
    leases: Lease[],
  ): Promise<CheckResult> {
    const step = { op: 'check' as const, charges, leases, by: 'host/1' }
    const result = await worker.counts.check(step, prefetch)
    const spends = new Map<string, Spend>()
    // After a step of the clock of Redis a command may come too late for it: then this worker has counted by itself.
    const counted = result.source === 'redis' ? result.charged : []
    for (const { charge, at, budget } of counted) {
      // What was spent from memory alone was spent at this moment: the answer took no time.
      const when = budget ? this.serverNow : at
      const spend = { at: when, steady: when - this.#ahead, cost: charge.cost }
      this.#logOf(charge).push(spend)
      spends.set(nameOf(charge), spend)
    }
    this.#spendsOf.set(result, spends)
    return result
  }

  #logOf(charge: Charge): Spend[] {
    const name = nameOf(charge)
    const log = this.spends.get(name) ?? []
    this.spends.set(name, log)
    return log
  }

  /** A command on its way to Redis and back. */
  async #carry(name: string, args: (string | number)[], worker: VirtualWorker): Promise<unknown> {
    const { latency = 0, random } = this.options
    const delay = () => Math.floor(random() * (latency + 1))
    if (!worker.isAlive) return new Promise(() => {})
    const [there, back] = [delay(), delay()]
    if (there) await sleep(there)
    this.commands++
    this.#sending++
    let reply: unknown
    try {
      // In place of the clock of Redis: the second element of step.lua's arguments.
      const timed = args.map((arg) => `${arg}`.replace(/^(\["[a-z-]+",)false,/, `$1${this.serverNow},`))
      reply = await this.redis.call(name, timed)
    } finally {
      this.#sending--
    }
    if (Array.isArray(reply) && Number(reply[1]) === 2) this.#recall(args)
    if (back) await sleep(back)
    if (!worker.isAlive) return new Promise(() => {})
    return reply
  }

  /** What Redis publishes is heard by all, but for those who do not listen. */
  #recall(args: (string | number)[]): void {
    const { lost = 0, latency = 0, random } = this.options
    const tags = new Set(args.flatMap((arg) => /^test:rate:(\{.*?\})/.exec(`${arg}`)?.[1] ?? []))
    for (const worker of this.workers) {
      if (random() < lost) continue
      const hear = () => {
        if (worker.isAlive) for (const tag of tags) worker.counts.recalled(tag)
      }
      void sleep(Math.floor(random() * (latency + 1))).then(hear)
    }
  }
}

const nameOf = ({ scope, subject, what }: Charge): string => `${tagOf(scope, subject)} ${what}`
