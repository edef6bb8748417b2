// Hooks at connect and at the end of a connection.

import { clientName, partyOf } from '../../../core/haraka/party-of'
import { guarded } from '../../../core/haraka/reply'
import type { Connection, Next, Plugin } from '../../../core/haraka/types'
import type { Limiter } from '../../../core/limiter'
import { services } from '../../../core/services'
import { connecting, stepOf } from '../policy/plan'
import { judge } from '../policy/verdict'
import { refuse } from './check'
import { settle } from './recipient-outcome'
import { runtime } from './runtime'
import { sessionOf } from './session'

/**
 * At lookup_rdns: the limiter is asked beside DNS, and `count_connection` awaits its answer. Who was refused a moment ago is
 * refused here, from memory: a flood asks neither.
 */
export const ask_connection = guarded(function (this, next, connection) {
  const { limiter } = services
  if (!limiter || isAsked(connection)) return next()
  const { plan, leases, charges } = begin(limiter, connection)
  const remembered = limiter.remembered(charges, leases)
  if (remembered) {
    const verdict = judge(runtime.limits.value, plan, remembered)
    if (refuse(this, next, connection, verdict, {}, true)) return
  }
  const result = limiter.check(charges, leases, plan.next)
  sessionOf(connection).connecting = { plan, result }
  next()
})

/** At connect, before the checks of strangers. XCLIENT comes back here, as another client. */
export const count_connection = guarded(async function (this, next, connection) {
  const session = sessionOf(connection)
  const { limiter } = services
  if (limiter && !isAsked(connection)) {
    const { plan, leases, charges } = begin(limiter, connection)
    session.connecting = { plan, result: limiter.check(charges, leases, plan.next) }
  }
  const { connecting } = session
  if (!connecting) return next()
  delete session.connecting
  const result = await connecting.result
  const verdict = judge(runtime.limits.value, connecting.plan, result)
  if (refuse(this, next, connection, verdict, {}, result.source === 'remembered')) return
  next()
})

const isAsked = (connection: Connection): boolean => sessionOf(connection).counted === clientName(connection)

/** Begins to count a client. What was counted of the one before it on this connection is over. */
function begin(limiter: Limiter, connection: Connection) {
  const session = sessionOf(connection)
  if (session.lease) limiter.release(session.lease)
  delete session.shut
  delete session.connecting
  session.counted = clientName(connection)
  session.lease = `${limiter.node}/${connection.uuid}`
  const plan = connecting(runtime.limits.value, partyOf(connection), session.lease)
  return { plan, ...stepOf(plan) }
}

/** Gives back what the connection holds. */
export function disconnect(this: Plugin, next: Next, connection: Connection): void {
  const session = sessionOf(connection)
  void settle(connection)
  if (session.lease) {
    services.limiter?.release(session.lease)
    session.lease = ''
  }
  next()
}
