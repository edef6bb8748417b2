// The memory store: the answers of step.lua, to the millisecond, from this process' memory.
import { makeKeys } from '../redis/keys'
import {
  type Answer,
  type Block,
  blockReason,
  type Charge,
  type CounterKey,
  type CounterState,
  keysOf,
  LEASE,
  type Lease,
  NEVER,
  type Source,
  type Step,
  type Store,
} from './contract'
import { Lru } from './lru'
import type { Window } from './rate'
import { add, type Buckets, giveBack, type Held, isOver, pack, read, retryAfter } from './window'

const keys = makeKeys('')

interface Counter {
  charge: Charge
  windows: { key: string; held: Held }[]
  state: CounterState
  decides: Held | undefined
}

const isLonger = (after: number, longest: number): boolean =>
  longest !== NEVER && (after === NEVER || after > longest)

/** A store in the memory of this process. Bounded: the least recently used counters go first. */
export class MemoryStore implements Store {
  readonly source: Source = 'memory'
  #rates: Lru<Buckets>
  #blocks: Lru<Block>
  /** Ends of leases (unix ms) by id, by key. */
  #leases = new Map<string, Map<string, number>>()

  /** `capacity`: so many windows of counters, and a tenth as many blocks, are kept; the least used go first. */
  constructor(
    capacity = 1_000_000,
    private readonly clock: () => number = Date.now,
  ) {
    this.#rates = new Lru<Buckets>(capacity, isOver)
    this.#blocks = new Lru<Block>(Math.ceil(capacity / 10), ({ until }, now) => until <= now)
  }

  get size(): number {
    return this.#rates.size
  }

  /** Nothing is granted in advance: who asks here has no long way. */
  async step(step: Step, now = this.clock()): Promise<Answer> {
    if (step.op === 'refund') await this.release(step.leases)
    const blocks = step.op === 'refund' ? [] : this.#blocksOf(step, now)
    const counters = step.charges.map((charge) => this.#count(step, charge, now))
    const slots = step.op === 'refund' ? [] : step.leases.map((lease) => this.#slot(lease, now))
    const refused = counters.some(({ charge, state }) => state.refused && !charge.shadow)
    const always = step.op === 'charge' || step.op === 'refund'
    const allowed = always || !(blocks.length || refused || slots.some((slot) => slot.refused))
    const answer = {
      allowed,
      at: now,
      states: counters.map(({ state }) => state),
      slots,
      blocks,
      source: this.source,
    }
    if (step.op === 'dry-run') return answer
    for (const counter of counters) {
      const probe = step.op === 'check' && counter.charge.checkOnly
      if (allowed && !probe) this.#write(step, counter, now)
    }
    if (!blocks.length) for (const counter of counters) this.#punish(step, counter, now)
    if (allowed && step.op !== 'refund') for (const lease of step.leases) this.#lease(lease, now)
    return answer
  }

  async renew(leases: Lease[], now = this.clock()): Promise<void> {
    for (const lease of leases) this.#lease(lease, now)
  }

  async release(leases: Lease[]): Promise<void> {
    for (const { scope, subject, id } of leases) this.#drop(keys.concurrent(scope, subject), id)
  }

  async block(block: Block, now = this.clock()): Promise<void> {
    this.#blocks.set(keys.block(block.scope, block.subject), block, now)
  }

  async unblock({ scope, subject }: CounterKey): Promise<void> {
    this.#blocks.delete(keys.block(scope, subject))
  }

  async reset({ scope, subject }: CounterKey): Promise<void> {
    const prefix = keys.rate(scope, subject, '')
    for (const key of this.#rates.keys()) if (key.startsWith(prefix)) this.#rates.delete(key)
  }

  /** Gives back all leases of one process: `owner` is HOST/PID. */
  releaseAll(owner: string): void {
    for (const [key, members] of this.#leases) {
      for (const id of members.keys()) if (id.startsWith(`${owner}/`)) this.#drop(key, id)
    }
  }

  #blocksOf(step: Step, now: number): Block[] {
    return keysOf(step).flatMap(({ scope, subject }) => {
      const block = this.#blocks.get(keys.block(scope, subject), now)
      return block ? [{ ...block, scope, subject }] : []
    })
  }

  #count({ op, at: all = 0 }: Step, charge: Charge, now: number): Counter {
    const { scope, subject, what, cost, limit, at = all } = charge
    const state: CounterState = { refused: false, used: 0, limit: 0, window: '', retryAfter: 0 }
    const counter: Counter = { charge, windows: [], state, decides: undefined }
    const decide = (held: Held, window: Window) => {
      counter.decides = held
      Object.assign(state, { used: held.used, limit: window.limit, window: window.name })
    }
    const name = keys.rate(scope, subject, what)
    let fullest = -1
    for (const window of limit.windows) {
      const key = `${name} ${window.name}`
      const held = read(this.#rates.get(key, now), window, now)
      counter.windows.push({ key, held })
      if (op === 'refund') giveBack(held, cost, at)
      else if (held.used + cost > window.limit) {
        const after = op === 'charge' ? 0 : retryAfter(held, cost, window.limit, now)
        if (!state.refused || isLonger(after, state.retryAfter)) {
          decide(held, window)
          state.retryAfter = after
        }
        state.refused = true
      }
      const full = (op === 'refund' ? held.used : held.used + cost) / window.limit
      if (state.refused || full <= fullest) continue
      decide(held, window)
      fullest = full
    }
    return counter
  }

  #slot({ scope, subject, id, limit }: Lease, now: number) {
    const members = this.#leases.get(keys.concurrent(scope, subject))
    let used = 0
    for (const until of members?.values() ?? []) if (until > now) used++
    return { refused: used >= limit && !members?.has(id), used }
  }

  #write({ op }: Step, { charge, windows, state, decides }: Counter, now: number): void {
    for (const { key, held } of windows) {
      if (op !== 'refund') add(held, charge.cost)
      // Nothing is kept of names for which nothing was accepted.
      if (held.used > 0) this.#rates.set(key, pack(held), now)
      else this.#rates.delete(key)
    }
    if (decides) state.used = decides.used
  }

  #punish({ by }: Step, { charge, state }: Counter, now: number): void {
    const { scope, subject, block } = charge
    if (!block || !state.refused || charge.shadow) return
    const reason = blockReason(charge.what)
    this.#blocks.set(
      keys.block(scope, subject),
      { scope, subject, reason, since: now, until: now + block, by },
      now,
    )
  }

  #lease({ scope, subject, id }: Lease, now: number): void {
    const key = keys.concurrent(scope, subject)
    const members = this.#leases.get(key) ?? new Map<string, number>()
    for (const [other, until] of members) if (until <= now) members.delete(other)
    members.set(id, now + LEASE)
    this.#leases.set(key, members)
  }

  #drop(key: string, id: string): void {
    const members = this.#leases.get(key)
    members?.delete(id)
    if (members?.size === 0) this.#leases.delete(key)
  }
}
