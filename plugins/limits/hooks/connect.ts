// Hooks at connect and at the end of a connection.

import { partyOf } from '../../../core/haraka/party-of'
import { guarded } from '../../../core/haraka/reply'
import type { Connection, Next, Plugin } from '../../../core/haraka/types'
import { services } from '../../../core/services'
import { connecting, stepOf } from '../policy/plan'
import { judge } from '../policy/verdict'
import { refuse } from './check'
import { settle } from './recipient-outcome'
import { runtime } from './runtime'
import { sessionOf } from './session'

/** The client that is counted; XCLIENT and PROXY make it another. */
const clientName = ({ uuid, remote }: Connection): string => `${uuid} ${remote.ip} ${remote.port}`

/**
 * At lookup_rdns, before DNS is asked, and at connect, where XCLIENT may come in. A refused client costs no more than
 * this: from memory, where it was refused before.
 */
export const count_connection = guarded(async function (this, next, connection) {
  const session = sessionOf(connection)
  const { limiter } = services
  if (!limiter || session.counted === clientName(connection)) return next()
  if (session.lease) limiter.release(session.lease)
  delete session.shut
  session.counted = clientName(connection)
  session.lease = `${limiter.node}/${connection.uuid}`
  const plan = connecting(runtime.limits.value, partyOf(connection), session.lease)
  const { charges, leases } = stepOf(plan)
  const result = await limiter.check(charges, leases, plan.next)
  const verdict = judge(runtime.limits.value, plan, result)
  if (refuse(this, next, connection, verdict, {}, result.source === 'remembered')) return
  next()
})

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
