// Hooks at MAIL: who may write in our name.
import type { Decision } from '../../../core/decision'
import { plain } from '../../../core/haraka/address'
import { partyOf } from '../../../core/haraka/party-of'
import { answer, guarded, record } from '../../../core/haraka/reply'
import type { Connection, HarakaAddress, Plugin } from '../../../core/haraka/types'
import { judgeSender } from '../policy/sender'
import { ownsOf, runtime } from './runtime'
import { stateOf } from './transaction'

/** Keeps the parameters of MAIL: SIZE, BODY and SMTPUTF8 are told to the next hop. */
export const begin = guarded(function (
  this,
  next,
  connection,
  params: [HarakaAddress, Record<string, string | null>],
) {
  if (connection.transaction) stateOf(connection.transaction).parameters = params[1] ?? {}
  next()
})

/** After other plugins' mail hooks, because SPF answers there. */
export const judge_sender = guarded(function (this, next, connection) {
  const refusal = senderRefusal(this, connection)
  if (refusal) answer(this, next, connection, refusal)
  else next()
})

/**
 * Why MAIL FROM is refused; a tag is recorded and kept for the header. Judged once for each configuration, at MAIL or,
 * where that hook did not run or the file has changed since, later.
 */
export function senderRefusal(plugin: Plugin, connection: Connection): Decision | undefined {
  const { transaction } = connection
  const { value, generation } = runtime.domains
  if (!transaction || stateOf(transaction).senderJudged === generation) return undefined
  const state = stateOf(transaction)
  const party = partyOf(connection)
  const decision = judgeSender(value, plain(transaction.mail_from), party, ownsOf(party))
  if (decision && decision.code >= 400) return decision
  state.senderJudged = generation
  delete state.tags.sender
  if (!decision) return undefined
  record(plugin, connection, decision)
  state.tags.sender = `forged-sender; ${decision.text}`
  return undefined
}
