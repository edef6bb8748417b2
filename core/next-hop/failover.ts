// Finds the first host of a route that takes an envelope.
import type { NextHop } from './address'
import type { Connections, Search } from './connections'
import { sayEnvelope } from './envelope'
import { hopKey } from './hosts'
import { HostFailure, type Reply } from './reply'
import { type Envelope, now, type Route, stepTime } from './route'
import type { Session } from './session'

/**
 * Opens a transaction for these recipients with the first host in order that answers, whatever it answers, and takes
 * one of the route's places for it. Rejects with HostFailure when the search ends without one.
 */
export async function openEnvelope(
  connections: Connections,
  route: Route,
  envelope: Envelope,
  recipients: string[],
  search: Search,
): Promise<{ session: Session; replies: Map<string, Reply> }> {
  const hops = await lookUp(route, search)
  await connections.enter(search)
  try {
    for (;;) {
      const { session, until } = await connections.session(route, hops, search)
      const replies = await offer(connections, session, search, () =>
        sayEnvelope(session, envelope, recipients, () => stepTime(route.timeout, until)),
      )
      if (replies) return { session, replies }
    }
  } catch (error) {
    connections.leave()
    throw error
  }
}

/** What the host answers; nothing when it fails, which is noted. */
async function offer<T>(
  { hosts }: Connections,
  session: Session,
  search: Search,
  say: () => Promise<T>,
): Promise<T | undefined> {
  const { hop } = session
  const stop = () => session.destroy('given up')
  search.signal.addEventListener('abort', stop, { once: true })
  try {
    const answer = await say()
    hosts.worked(hop)
    return answer
  } catch (error) {
    session.destroy('failed')
    if (session.reused) {
      search.stale.add(hopKey(hop))
      return undefined
    }
    search.failed(hop, error)
    if (error instanceof HostFailure && error.rests) hosts.failed(hop)
    return undefined
  } finally {
    search.signal.removeEventListener('abort', stop)
  }
}

/** The route's hosts; a look-up gets no more time than the search. Rejects with HostFailure. */
function lookUp({ hops }: Route, { deadline }: Search): Promise<NextHop[]> | NextHop[] {
  if (typeof hops !== 'function') return hops
  return new Promise((resolve, reject) => {
    const fail = (why: string) => reject(new HostFailure(`the next hop cannot be looked up: ${why}`, false))
    const timer = setTimeout(() => fail('no answer in time'), Math.max(1, deadline - now()))
    Promise.resolve()
      .then(hops)
      .then(resolve, (error) => fail(error instanceof Error ? error.message : String(error)))
      .finally(() => clearTimeout(timer))
  })
}
