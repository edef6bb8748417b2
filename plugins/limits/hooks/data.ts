// The hooks at the end of data: bytes, which are given back where the message is refused.

import { plain } from '../../../core/haraka/address'
import { partyOf } from '../../../core/haraka/party-of'
import { guarded } from '../../../core/haraka/reply'
import type { Connection, Next, Plugin } from '../../../core/haraka/types'
import { services } from '../../../core/services'
import { ending } from '../policy/plan'
import { judge } from '../policy/verdict'
import { ask, refuse } from './check'
import { settle } from './recipient-outcome'
import { runtime } from './runtime'
import { sessionOf } from './session'

/** After the plugins that read the message; at the queue for one that a plugin of theirs kept from being counted. */
export const count_bytes = guarded(async function (this, next, connection) {
  const { transaction } = connection
  const session = sessionOf(connection)
  if (!transaction || session.weighed === transaction.uuid) return next()
  session.weighed = transaction.uuid
  void settle(connection)
  const hosts = transaction.rcpt_to.map((each) => plain(each).host)
  const plan = ending(runtime.limits.value, partyOf(connection), transaction.data_bytes, hosts)
  const said = await ask('check', plan)
  if (said && refuse(this, next, connection, judge(runtime.limits.value, plan, said))) return
  if (said) session.bytes = said
  next()
})

/**
 * At the end of a transaction: the bytes of a message that was refused are given back. Of one whose client hung up
 * before the answer nobody knows: it may have been taken.
 */
export function reset(this: Plugin, next: Next, connection: Connection): void {
  void settle(connection)
  const session = sessionOf(connection)
  const status = connection.transaction?.msg_status
  if (session.bytes && (status === 'rejected' || status === 'deferred'))
    void services.limiter?.refund(session.bytes)
  delete session.bytes
  next()
}
