// The questions that `check` puts to others: next hops, the smarthost and Redis. None sends mail.

import { within } from '../../core/limiter/failover'
import { RedisStore } from '../../core/limiter/redis-store'
import { printNextHop } from '../../core/next-hop/address'
import { NextHopClient } from '../../core/next-hop/client'
import { Connections } from '../../core/next-hop/connections'
import { DEFAULT_CONNECTIONS, now, type Route, withDefaults } from '../../core/next-hop/route'
import { Search } from '../../core/next-hop/search'
import type { RedisConfig } from '../../core/redis/config'
import { closeRedis, openRedis, unknownSeeds, whenReady } from '../../core/redis/connection'
import { printError } from '../../core/redis/errors'
import type { DomainsConfig } from '../../plugins/domains/config'
import type { Domain } from '../../plugins/domains/table'

/** For all hosts of one question together, from when it is asked, ms. */
const PATIENCE = 10_000
/** For connecting to Redis, and then for its answer, ms. */
const REDIS_PATIENCE = 2000

/** What one host said. `reached`: it answered; `ok`: mail could go there. */
export interface Answer {
  /** Undefined: the smarthost, for relayed mail. */
  domain?: string
  nextHop: string
  reached: boolean
  ok: boolean
  said: string
}

/**
 * Asks each next hop for RCPT TO:<postmaster@DOMAIN>, which every server must take (RFC 5321 4.5.1); then RSET.
 * `patience`: ms for each question, from when it is asked; `more`: domains beside those in the files.
 */
export async function askNextHops(
  config: DomainsConfig,
  hostName: string,
  { patience = PATIENCE, more = [] }: { patience?: number; more?: Domain[] } = {},
): Promise<Answer[]> {
  const client = new NextHopClient({ name: hostName, budget: patience })
  const questions = [...config.domains.all(), ...more].flatMap(({ name, route }) =>
    route ? hopsOf(route).map((one) => ({ name, one })) : [],
  )
  // A host that has answered nobody yet, and one question not, is not asked again for each of its domains.
  const heard = new Set<string>()
  const silence = new Map<string, Answer>()
  const answers = await askInTurn(
    questions,
    ({ one }) => one.route,
    async ({ name, one }) => {
      const { key } = one.route
      const silent = silence.get(key)
      if (silent && !heard.has(key)) return { ...silent, domain: name }
      const delivery = client.open(one.route, { mailFrom: '' })
      const { answered, code, status = '', text } = await delivery.rcpt(`postmaster@${name}`)
      delivery.abort()
      const answer: Answer = {
        domain: name,
        nextHop: one.text,
        reached: answered,
        ok: answered && code < 300,
        said: `${code} ${status} ${text}`.replace(/ +/g, ' ').trim(),
      }
      if (answered) heard.add(key)
      else silence.set(key, answer)
      return answer
    },
  )
  await client.closeAll()
  return answers
}

/**
 * The answers, in the order of the questions. Of one route no more are asked at once than it has connections: a
 * question that waits for one of ours is not asked yet, and its time has not begun.
 */
async function askInTurn<Q, A>(
  questions: Q[],
  routeOf: (question: Q) => Route,
  ask: (question: Q) => Promise<A>,
): Promise<A[]> {
  const answers: A[] = []
  const queues = new Map<string, { connections: number; left: number[] }>()
  for (const [i, question] of questions.entries()) {
    const { key, connections = DEFAULT_CONNECTIONS } = routeOf(question)
    const queue = queues.get(key) ?? { connections, left: [] }
    queue.left.push(i)
    queues.set(key, queue)
  }
  const work = async (left: number[]) => {
    for (let i = left.shift(); i !== undefined; i = left.shift()) answers[i] = await ask(questions[i]!)
  }
  const workers = [...queues.values()].flatMap(({ connections, left }) =>
    Array.from({ length: Math.min(connections, left.length) }, () => work(left)),
  )
  await Promise.all(workers)
  return answers
}

/** Greets the smarthost and logs in, as the server would; no sender and no recipient is named. */
export async function askSmarthost({ smarthost }: DomainsConfig, hostName: string): Promise<Answer[]> {
  if (!smarthost) return []
  return Promise.all(
    hopsOf(smarthost).map(async ({ text, route }) => {
      const about = { nextHop: text }
      const connections = new Connections(withDefaults({ name: hostName, budget: PATIENCE }), route)
      const search = new Search(now() + PATIENCE, new AbortController().signal)
      try {
        await connections.places.take(search)
        const hops = typeof route.hops === 'function' ? await route.hops() : route.hops
        const { session } = await connections.session(route, hops, search)
        const { tls, authenticated } = session.peer
        connections.giveBack(session)
        const said = `${tls ? 'TLS' : 'no TLS'}, ${authenticated ? 'logged in' : 'no login'}`
        return { ...about, reached: true, ok: true, said }
      } catch (error) {
        return { ...about, reached: false, ok: false, said: (error as Error).message }
      } finally {
        await connections.close()
      }
    }),
  )
}

/**
 * Asks Redis as the server does, by a step on counters of its own that end after a second: to connect says nothing of
 * what an ACL of Redis allows. Redis away is no reason not to start, but counters are then of one host, and statistics
 * are not kept.
 */
export async function askRedis(settings: RedisConfig): Promise<{ ok: boolean; said: string }> {
  const client = openRedis(settings)
  try {
    await whenReady(client, REDIS_PATIENCE)
    const store = new RedisStore(client, { prefix: settings.prefix, timeout: REDIS_PATIENCE })
    await within(REDIS_PATIENCE, store.probe())
    return { ok: true, said: ['answers', ...unknownSeeds(client)].join('; ') }
  } catch (error) {
    const why = printError(error)
    return {
      ok: false,
      said: `${why}; without it workers of one host count together; if that is meant, write enabled = false in redis.ini`,
    }
  } finally {
    await closeRedis(client)
  }
}

/** Each host by itself; MX hosts are looked up and asked as one. */
function hopsOf(route: Route): { text: string; route: Route }[] {
  if (typeof route.hops === 'function') return [{ text: 'mx', route }]
  return route.hops.map((hop, i) => ({
    text: printNextHop(hop),
    // The place in the list: two logins at one host print alike.
    route: { ...route, key: `${route.key} ${i}`, hops: [hop] },
  }))
}
