// Finds the first host of a route that takes an envelope.
import type { NextHop } from './address'
import type { Connections } from './connections'
import { sendEnvelope } from './envelope'
import { hopKey } from './hosts'
import { HostFailure, type Reply } from './reply'
import { type Envelope, now, type Route, stepTime } from './route'
import type { Search } from './search'
import type { Session } from './session'

/** A transaction that a host has taken, and its answers. */
export interface Opened {
  session: Session
  replies: Map<string, Reply>
}

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
): Promise<Opened> {
  const hops = await lookUp(route, search)
  const { places } = connections
  await places.take(search)
  try {
    for (;;) {
      const { session, until } = await connections.session(route, hops, search)
      const step = () => stepTime(route.timeout, until)
      const replies = await offer(connections, session, envelope, recipients, search, step)
      if (replies) return { session, replies }
    }
  } catch (error) {
    places.free()
    throw error
  }
}

/** What the host answers; nothing when it fails, which is noted, or when another session with it is to be asked. */
async function offer(
  { hosts }: Connections,
  session: Session,
  envelope: Envelope,
  recipients: string[],
  search: Search,
  step: () => number,
): Promise<Map<string, Reply> | undefined> {
  const { hop } = session
  const stop = () => session.destroy('given up')
  search.signal.addEventListener('abort', stop, { once: true })
  try {
    const { replies, spent } = await sendEnvelope(session, envelope, recipients, step)
    hosts.worked(hop)
    if (!spent) return replies
    search.stale.add(hopKey(hop))
    await session.quit()
    return undefined
  } catch (error) {
    session.destroy('failed')
    if (session.reused) {
      search.stale.add(hopKey(hop))
      return undefined
    }
    search.failed(hop, error)
    if (error instanceof HostFailure && error.backsOff) hosts.failed(hop, error)
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
