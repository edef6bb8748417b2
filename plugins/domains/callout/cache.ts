// What next hops have said of recipients: in the memory of this process, and in Redis for all.
import { Lru } from '../../../core/limiter/lru'
import type { MailboxState } from '../policy/callout'
import type { RecipientStore } from './store'

/** What a next hop has said of a recipient; or, under the name of a domain, of a made-up recipient there. */
export interface Answer {
  state: MailboxState
  /** Unix ms. */
  asked: number
  /** `550 5.1.1 No such user`. */
  reply: string
  /** Who said so: the answers of another next hop count for nothing (placeOf). */
  nextHop: string
}

/** How long an answer counts, by its state, ms. */
export type Lifetimes = Record<MailboxState, number>

/** So long a domain counts as one that takes every recipient, or does not, ms. */
export const DAY = 86_400_000
const OF_A_DOMAIN: Lifetimes = { known: DAY, unknown: DAY }
/** Recipients of each state in memory; the longest known go first, and no flood of unknown ones drives the known out. */
const CAPACITY = 20_000
/** After so many ms Redis is asked once more whether somebody is unknown: an operator may have deleted the key there. */
const LOOK_AGAIN = 60_000

interface Remembered extends Answer {
  until: number
  /** When Redis, or the next hop, said so last: unix ms. */
  heard: number
}

/** The cache of one process. */
export class Cache {
  #memory: Record<MailboxState, Lru<Remembered>>
  /** Domains of which Redis has just said that nothing is known, until when: each unknown recipient asks for them. */
  #absent = new Lru<number>(1_000, (until, now) => until <= now)

  constructor(
    private readonly store: RecipientStore | undefined,
    private readonly lifetimes: () => Lifetimes,
    private readonly clock: () => number,
  ) {
    const lru = () => new Lru<Remembered>(CAPACITY, ({ until }, now) => until <= now)
    this.#memory = { known: lru(), unknown: lru() }
  }

  /** What is known here without asking anybody. */
  recall(name: string, nextHop: string): Remembered | undefined {
    const now = this.clock()
    const found = this.#memory.known.get(name, now) ?? this.#memory.unknown.get(name, now)
    return found?.nextHop === nextHop && this.#isFresh(name, found) ? found : undefined
  }

  /** What is known here or in Redis. It waits for Redis no longer than its timeout, and never rejects. */
  async find(name: string, nextHop: string): Promise<Answer | undefined> {
    if (this.#absent.get(name, this.clock())) return undefined
    const here = this.recall(name, nextHop)
    const isRecent = here && (here.state === 'known' || this.clock() - here.heard < LOOK_AGAIN)
    return isRecent ? here : this.reread(name, nextHop)
  }

  /** What Redis says, and where it cannot be asked what is known here. */
  async reread(name: string, nextHop: string): Promise<Answer | undefined> {
    const fields = await this.store?.read(name)
    const here = this.recall(name, nextHop)
    if (!fields) return here
    const stored = parseAnswer(fields)
    if (stored?.nextHop === nextHop && this.#isFresh(name, stored)) {
      if (!here || stored.asked >= here.asked) this.keepHere(name, stored)
      return this.recall(name, nextHop)
    }
    // Deleted there: what is good stays until it ends, what is bad is asked again.
    const now = this.clock()
    if (here?.state === 'unknown' && now - here.heard >= LOOK_AGAIN) this.#memory.unknown.delete(name)
    const left = this.recall(name, nextHop)
    if (!left && isDomain(name)) this.#absent.set(name, now + LOOK_AGAIN, now)
    return left
  }

  /** Keeps a new answer, here and in Redis. */
  keep(name: string, answer: Answer): void {
    this.keepHere(name, answer)
    const { state, asked, reply, nextHop } = answer
    const left = Math.ceil(asked + this.#lifetimes(name)[state] - this.clock())
    if (left > 0) this.store?.write(name, { state, asked: String(asked), reply, next_hop: nextHop }, left)
  }

  /** Keeps an answer in this process only. */
  keepHere(name: string, answer: Answer): void {
    const now = this.clock()
    const other = answer.state === 'known' ? 'unknown' : 'known'
    this.#memory[other].delete(name)
    this.#absent.delete(name)
    const until = answer.asked + this.#lifetimes(name)[answer.state]
    this.#memory[answer.state].set(name, { ...answer, until, heard: now }, now)
  }

  /** What is known here may be no longer true; Redis may say so still. */
  forgetHere(name: string): void {
    this.#memory.known.delete(name)
  }

  #lifetimes(name: string): Lifetimes {
    return isDomain(name) ? OF_A_DOMAIN : this.lifetimes()
  }

  /** By the lifetimes that are in force now. */
  #isFresh(name: string, { state, asked }: Answer): boolean {
    return this.clock() - asked < this.#lifetimes(name)[state]
  }
}

/** A domain stands for a made-up recipient in it. */
const isDomain = (name: string): boolean => !name.includes('@')

/** A hash of Redis as an answer; undefined where it is none. */
function parseAnswer(fields: Record<string, string>): Answer | undefined {
  const { state, asked, reply = '', next_hop: nextHop = '' } = fields
  if ((state !== 'known' && state !== 'unknown') || !/^\d{1,15}$/.test(asked ?? '')) return undefined
  return { state, asked: Number(asked), reply, nextHop }
}
