// The hooks at RCPT: recipients, and an end to guessing them.

import { plain } from '../../../core/haraka/address'
import { partyOf } from '../../../core/haraka/party-of'
import { answer, guarded, record } from '../../../core/haraka/reply'
import type { HarakaAddress } from '../../../core/haraka/types'
import { addressing } from '../policy/plan'
import { anotherRecipient } from '../policy/refusal'
import { judge } from '../policy/verdict'
import { ask, refuse } from './check'
import { countMessage } from './mail'
import { settle, shutFor } from './recipient-outcome'
import { runtime } from './runtime'
import { sessionOf } from './session'

/** First at RCPT: what came of the recipient before this one, and an end to guessing. */
export const shut = guarded(async function (this, next, connection, params: [HarakaAddress]) {
  await settle(connection)
  const session = sessionOf(connection)
  const about = { to: plain(params[0]).address }
  const closed = shutFor(connection)
  if (closed) {
    if (closed.code >= 500) session.refusedByLimit++
    return answer(this, next, connection, closed, about)
  }
  // A plugin that says OK to MAIL, as dns-list does for those on a white list, keeps the hooks after it from running.
  if (session.message === connection.transaction?.uuid) return next()
  const verdict = await countMessage(connection)
  if (verdict?.refusal && verdict.refusal.decision.code >= 500) session.refusedByLimit++
  if (verdict && refuse(this, next, connection, verdict, about)) return
  next()
})

/** Before the next hop is asked, after everything else that may refuse. */
export const count_recipient = guarded(async function (this, next, connection, given: HarakaAddress) {
  const { transaction } = connection
  if (!transaction) return next()
  const recipient = plain(given)
  const about = { to: recipient.address }
  const session = sessionOf(connection)
  const tooMany = anotherRecipient(runtime.limits.value, transaction.rcpt_to.length - 1)
  if (tooMany && tooMany.code >= 400) {
    if (tooMany.code >= 500) session.refusedByLimit++
    return answer(this, next, connection, tooMany, about)
  }
  if (tooMany) record(this, connection, tooMany, about)
  const plan = addressing(runtime.limits.value, partyOf(connection), recipient)
  const said = await ask('check', plan)
  if (!said) return next()
  const verdict = judge(runtime.limits.value, plan, said)
  if (verdict.refusal && verdict.refusal.decision.code >= 500) session.refusedByLimit++
  if (refuse(this, next, connection, verdict, about)) return
  session.pending = { verdict: said, accepted: connection.rcpt_count.accept }
  next()
})
