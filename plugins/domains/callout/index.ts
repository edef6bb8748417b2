// Recipient verification: what is known of a recipient, and the questions to its next hop where nothing is.
import type { Limiter } from '../../../core/limiter'
import type { NextHopClient } from '../../../core/next-hop/client'
import type { Reply } from '../../../core/next-hop/reply'
import type { Route } from '../../../core/next-hop/route'
import { type CalloutSettings, mailboxState, printReply } from '../policy/callout'
import { type Answer, Cache, DAY } from './cache'
import { Later } from './later'
import { type Permit, Permits } from './permits'
import { BUDGET, madeUp, placeOf, Questions } from './questions'
import type { RecipientStore } from './store'
import { LocalTurns, type Outcome, type Since, type Turns } from './turns'

/** What callouts need of their process; times are ms. */
export interface CalloutOptions {
  client: NextHopClient
  settings(): CalloutSettings
  store?: RecipientStore | undefined
  limiter(): Pick<Limiter, 'check' | 'refund'> | undefined
  /** The turns among the workers of this host; not given: there is one process. */
  shared?: Turns
  later?: Later
  /** For one question, ms. */
  budget?: number
  /** Unix ms; for tests. */
  clock?: () => number
}

/** A recipient, and whom to ask. */
export interface Subject {
  route: Route
  /** As the next hop is told it. */
  address: string
  /** Its one form, by which it is kept. */
  name: string
}

/** Under `forward` a recipient waits so long for the question that `questions` allows, ms. */
const PATIENCE = 10_000
/** A known recipient is asked about again after this part of `cache_known`. */
const REFRESH = 7
/** A refresh that heard nothing is tried again after so many ms. */
const REFRESH_PAUSE = 300_000
/** An answer as old as this, in ms, is new enough for who has just found none in Redis. */
const JUST_NOW = 60_000

/** One a process. */
export class Callouts {
  #cache: Cache
  #turns: Turns
  #permits: Permits
  #questions: Questions
  #later: Later
  #clock: () => number
  /** When a recipient may be asked about in the background again, by name: unix ms. */
  #background = new Map<string, number>()

  constructor(private readonly options: CalloutOptions) {
    this.#clock = options.clock ?? Date.now
    const lifetimes = () => {
      const { cacheKnown, cacheUnknown } = options.settings()
      return { known: cacheKnown, unknown: cacheUnknown }
    }
    this.#cache = new Cache(options.store, lifetimes, this.#clock)
    this.#turns = new LocalTurns(options.shared)
    this.#permits = new Permits(options.limiter)
    this.#questions = new Questions(options.client, this.#permits, options.budget ?? BUDGET)
    this.#later = options.later ?? new Later()
  }

  /** What is known of a recipient: cached, or by a question. A known one never waits for a question. Never rejects. */
  async verify(subject: Subject): Promise<Outcome> {
    const { route, name } = subject
    const place = placeOf(route)
    const here = this.#cache.recall(name, place)
    const [cached, domain] =
      here?.state === 'known'
        ? [here]
        : await Promise.all([this.cached(subject), this.#cache.find(domainOf(name), place)])
    if (cached) {
      if (cached.state === 'known') this.#refresh(subject, cached)
      return { answer: cached }
    }
    if (domain?.state === 'known') return { answer: domain }
    return this.#take(subject, this.#since())
  }

  /** What is cached of a recipient, here or in Redis. */
  cached({ route, name }: Subject): Promise<Answer | undefined> {
    return this.#cache.find(name, placeOf(route))
  }

  /** The right to ask the next hop about a recipient on the connection that delivers; undefined: not now. */
  permit({ route }: Subject): Promise<Permit | undefined> {
    return this.#permits.takeOrWait(placeOf(route), this.options.settings().questions, PATIENCE)
  }

  /**
   * Learns from an answer on the connection that delivers. That a mailbox is known stays in this process: by mail alone
   * strangers could fill Redis with names of a domain that takes every recipient.
   */
  learn({ route, name }: Subject, reply: Reply, senderIsNull: boolean): void {
    const state = mailboxState(reply, senderIsNull)
    // By any other refusal a stranger could make us forget whom we know.
    if (reply.status !== undefined && mailboxState(reply, true) === 'unknown') this.#cache.forgetHere(name)
    if (state === 'cannot tell') return
    const answer = this.#answer(state, reply, route)
    if (state === 'known') this.#cache.keepHere(name, answer)
    else this.#cache.keep(name, answer)
  }

  /** Ends what would be asked later. */
  close(): void {
    this.#later.close()
  }

  /** Where Redis has just been asked, only an answer of this moment will do; else any that still counts. */
  #since(): Since {
    const { cacheKnown, cacheUnknown } = this.options.settings()
    const isAsked = this.options.store?.isUp
    const age = (lifetime: number) => this.#clock() - (isAsked ? Math.min(JUST_NOW, lifetime) : lifetime)
    return { known: age(cacheKnown), unknown: age(cacheUnknown) }
  }

  /** Asks when it is this process' turn, and keeps what others have heard. */
  async #take(subject: Subject, since: Since): Promise<Outcome> {
    const { name, route } = subject
    const place = placeOf(route)
    const outcome = await this.#turns.take(`${name} ${place}`, since, () => this.#askOnce(subject, since))
    const { answer } = outcome
    if (answer && (this.#cache.recall(name, place)?.asked ?? 0) < answer.asked)
      this.#cache.keepHere(name, answer)
    return outcome
  }

  async #askOnce(subject: Subject, since: Since): Promise<Outcome> {
    const { route, name, address } = subject
    const place = placeOf(route)
    const before = this.#cache.recall(name, place)
    if (before && before.asked > since[before.state]) return { answer: before }
    const reply = await this.#questions.ask(route, address, this.options.settings().questions)
    if (!reply) return { isOverLimit: true }
    const state = mailboxState(reply, true)
    if (state === 'cannot tell') {
      if (reply.answered && reply.code < 500) this.#askLater(subject)
      return { reply }
    }
    const answer = this.#answer(state, reply, route)
    this.#cache.keep(name, answer)
    if (state === 'known' && name.includes('@')) this.#tryMadeUp(route, domainOf(name))
    return { reply, answer }
  }

  #askLater(subject: Subject): void {
    this.#later.again(
      subject.name,
      async () => (await this.#take(subject, this.#since())).answer !== undefined,
    )
  }

  #answer(state: Answer['state'], reply: Reply, route: Route): Answer {
    return { state, asked: this.#clock(), reply: printReply(reply), nextHop: placeOf(route) }
  }

  /** Asks about a known recipient again when its time has come. Whatever fails, the good answer stays. */
  #refresh(subject: Subject, { asked }: Answer): void {
    const { name, route } = subject
    const due = this.options.settings().cacheKnown / REFRESH
    if (this.#clock() - asked < due) return
    this.#inBackground(name, async () => {
      const newest = await this.#cache.reread(name, placeOf(route))
      if (newest && this.#clock() - newest.asked < due) return
      await this.#take(subject, { known: asked, unknown: asked })
    })
  }

  /** Once a day: whether this domain takes a recipient that cannot be there. */
  #tryMadeUp(route: Route, domain: string): void {
    this.#inBackground(domain, async () => {
      if (await this.#cache.reread(domain, placeOf(route))) return
      const since = this.#clock() - DAY
      await this.#take({ route, name: domain, address: madeUp(domain) }, { known: since, unknown: since })
    })
  }

  /** Not again within REFRESH_PAUSE. */
  #inBackground(name: string, work: () => Promise<void>): void {
    const now = this.#clock()
    if ((this.#background.get(name) ?? 0) > now) return
    if (this.#background.size >= 10_000) this.#background.clear()
    this.#background.set(name, now + REFRESH_PAUSE)
    void work().catch(() => {})
  }
}

const domainOf = (name: string): string => name.slice(name.lastIndexOf('@') + 1)
