// Hooks about mail: messages, recipients, bytes.

import { partyOf } from '../../../core/haraka/party-of'
import { answer, guarded, record } from '../../../core/haraka/reply'
import type { Address, Connection, Next, Plugin } from '../../../core/haraka/types'
import { services } from '../../../core/services'
import { addressing, ending, mailing } from '../policy/plan'
import { anotherRecipient, judge, type Verdict } from '../policy/verdict'
import { ask, refuse } from './check'
import { countRefused, shutFor, shutOut, withLook } from './recipient-outcome'
import { runtime } from './runtime'
import { sessionOf } from './session'

/** After SPF has spoken, which tells whether MAIL FROM can be believed. */
export const count_message = guarded(async function (
  this,
  next,
  connection,
  params: [Address, Record<string, string | null>],
) {
  // Not awaited: what it sends reaches the store before the check does.
  void settle(connection)
  const size = Number(params[1]?.['SIZE']) || 0
  const verdict = await countMessage(connection, size)
  if (verdict && refuse(this, next, connection, verdict)) return
  next()
})

async function countMessage(connection: Connection, size = 0): Promise<Verdict | undefined> {
  const plan = withLook(mailing(runtime.limits.value, partyOf(connection), size), connection)
  const said = await ask('check', plan)
  if (!said || said.allowed) sessionOf(connection).message = connection.transaction?.uuid
  if (said?.allowed) shutOut(connection, plan, said)
  return said && judge(runtime.limits.value, plan, said)
}

/** First at RCPT: what came of the recipient before this one, and an end to guessing. */
export const shut = guarded(async function (this, next, connection, params: [Address]) {
  await settle(connection)
  const session = sessionOf(connection)
  const about = { to: params[0].address }
  const closed = shutFor(connection)
  if (closed) {
    if (closed.code >= 500) session.ours++
    return answer(this, next, connection, closed, about)
  }
  // A plugin that says OK to MAIL, as dns-list does for those on a white list, keeps the hooks after it from running.
  if (session.message === connection.transaction?.uuid) return next()
  const verdict = await countMessage(connection)
  if (verdict?.refusal && verdict.refusal.decision.code >= 500) session.ours++
  if (verdict && refuse(this, next, connection, verdict, about)) return
  next()
})

/** Before the next hop is asked, after everything else that may refuse. */
export const count_recipient = guarded(async function (this, next, connection, recipient: Address) {
  const { transaction } = connection
  if (!transaction) return next()
  const about = { to: recipient.address }
  const session = sessionOf(connection)
  const tooMany = anotherRecipient(runtime.limits.value, transaction.rcpt_to.length - 1)
  if (tooMany && tooMany.code >= 400) {
    if (tooMany.code >= 500) session.ours++
    return answer(this, next, connection, tooMany, about)
  }
  if (tooMany) record(this, connection, tooMany, about)
  const plan = addressing(runtime.limits.value, partyOf(connection), recipient)
  const said = await ask('check', plan)
  if (!said) return next()
  const verdict = judge(runtime.limits.value, plan, said)
  if (verdict.refusal && verdict.refusal.decision.code >= 500) session.ours++
  if (refuse(this, next, connection, verdict, about)) return
  session.pending = { verdict: said, accepted: connection.rcpt_count.accept }
  next()
})

/** After the plugins that read the message; at the queue for one that a plugin of theirs kept from being counted. */
export const count_bytes = guarded(async function (this, next, connection) {
  const { transaction } = connection
  const session = sessionOf(connection)
  if (!transaction || session.weighed === transaction.uuid) return next()
  session.weighed = transaction.uuid
  void settle(connection)
  const hosts = transaction.rcpt_to.map(({ host }) => host)
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

/**
 * What came of the last recipient: Haraka has no hook for it, but counts. One that was charged and then refused by
 * something else is given back; those refused for good, not by a limit, are counted.
 */
export async function settle(connection: Connection): Promise<void> {
  const session = sessionOf(connection)
  const { accept, reject } = connection.rcpt_count
  if (session.pending && accept <= session.pending.accepted)
    void services.limiter?.refund(session.pending.verdict)
  delete session.pending
  const cost = reject - session.refused - session.ours
  session.refused = reject
  session.ours = 0
  if (cost > 0) await countRefused(connection, cost)
}
