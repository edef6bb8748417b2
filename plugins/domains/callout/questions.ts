// Questions to next hops: MAIL FROM:<> and RCPT TO, never DATA.
import { randomBytes } from 'node:crypto'
import type { Rate } from '../../../core/limiter/rate'
import { printNextHop } from '../../../core/next-hop/address'
import type { NextHopClient } from '../../../core/next-hop/client'
import { Places } from '../../../core/next-hop/places'
import { failureReply, noAnswer, type Reply } from '../../../core/next-hop/reply'
import { DEFAULT_CONNECTIONS, now, type Route } from '../../../core/next-hop/route'
import { Search } from '../../../core/next-hop/search'
import { Breaker } from './breaker'
import type { Permits } from './permits'

/** All hosts of one question together, the wait for a connection included, ms. */
export const BUDGET = 20_000
/** Connections at once to one next hop, beside those that deliver. */
const CONNECTIONS = 4
/** On one connection: Exim hangs up after 10 commands that are no mail, RSET among them (smtp_accept_max_nonmail). */
const QUESTIONS = 8

const RESTS = noAnswer('not asked, for it did not answer the last questions')

/** The same next hop over connections of its own, so that questions never take the places of mail. */
const routeOfQuestions = (route: Route): Route => ({
  ...route,
  key: `callout ${route.key}`,
  connections: Math.min(CONNECTIONS, route.connections ?? DEFAULT_CONNECTIONS),
  maxTransactions: QUESTIONS,
})

/** Asks, as often as `questions` allows. */
export class Questions {
  #breaker: Breaker
  #routes = new WeakMap<Route, Route>()
  /** Who asks one next hop at once: a permit must not grow old while it waits for a connection. */
  #places = new Map<string, Places>()

  constructor(
    private readonly client: NextHopClient,
    private readonly permits: Permits,
    private readonly budget: number,
  ) {
    this.#breaker = new Breaker(now, budget)
  }

  /** The next hop's own answer, or that there is none; undefined where `limit` lets nobody ask now. Never rejects. */
  async ask(given: Route, address: string, limit: Rate): Promise<Reply | undefined> {
    const route = this.#routeOf(given)
    const { key, connections = CONNECTIONS } = route
    if (this.#breaker.rests(key)) return RESTS
    const until = now() + this.budget
    const places = this.#places.get(key) ?? new Places(connections, { grace: 0, limitMemory: 0, clock: now })
    this.#places.set(key, places)
    try {
      await places.take(new Search(until, new AbortController().signal))
    } catch (error) {
      return failureReply(error)
    }
    try {
      return await this.#ask(route, address, limit, until)
    } finally {
      places.free()
      if (places.taken === 0) this.#places.delete(key)
    }
  }

  async #ask(route: Route, address: string, limit: Rate, until: number): Promise<Reply | undefined> {
    const { key } = route
    if (this.#breaker.rests(key)) return RESTS
    const permit = await this.permits.take(placeOf(route), limit)
    if (!permit) return undefined
    if (!this.#breaker.mayAsk(key)) {
      permit.giveBack()
      return RESTS
    }
    const delivery = this.client.open(route, { mailFrom: '' }, { budget: Math.max(1, until - now()) })
    const reply = await delivery.rcpt(address)
    delivery.abort()
    permit.spend()
    if (reply.answered) this.#breaker.answered(key)
    else if (!reply.congested) this.#breaker.failed(key)
    return reply
  }

  #routeOf(route: Route): Route {
    const made = this.#routes.get(route) ?? routeOfQuestions(route)
    this.#routes.set(route, made)
    return made
  }
}

/** A next hop as it stands with its answers, without a login: the same in every worker, on every server. */
export function placeOf(route: Route): string {
  const { hops } = route
  if (typeof hops === 'function') return 'mx'
  const known = places.get(route)
  if (known !== undefined) return known
  const place = hops.map(({ user: _user, password: _password, ...hop }) => printNextHop(hop)).join(', ')
  places.set(route, place)
  return place
}

const places = new WeakMap<Route, string>()

/** A recipient that nobody has and nobody guesses: who takes it takes everybody. */
export const madeUp = (domain: string): string =>
  `recipient-check-${randomBytes(8).toString('hex')}@${domain}`
