// Hooks at MAIL: who may write in our name.
import type { Decision } from '../../../core/decision'
import { plain } from '../../../core/haraka/address'
import { readAsUtf8 } from '../../../core/haraka/message'
import { partyOf } from '../../../core/haraka/party-of'
import { answer, guarded, record } from '../../../core/haraka/reply'
import type { Connection, HarakaAddress, Plugin } from '../../../core/haraka/types'
import { judgeSender, tagOf } from '../policy/sender'
import { informed } from './look-up'
import { ownsOf, runtime } from './runtime'
import { stateOf } from './transaction'

/** Keeps the parameters of MAIL: SIZE, BODY and SMTPUTF8 are told to the next hop. */
export const begin = guarded(function (
  this,
  next,
  connection,
  params: [HarakaAddress, Record<string, string | null>],
) {
  readAsUtf8(connection)
  if (connection.transaction) stateOf(connection.transaction).parameters = params[1] ?? {}
  next()
})

/** After other plugins' mail hooks, because SPF answers there. */
export const judge_sender = informed(function (this, next, connection) {
  const refusal = senderRefusal(this, connection)
  if (refusal) answer(this, next, connection, refusal)
  else next()
})

/**
 * Why MAIL FROM is refused; a tag is recorded once and kept for the header. Judged again at each command of the
 * transaction: a reload, of whichever file, may have taken the right or the login that excused it, and a plugin that
 * ended the mail hook may have kept it from being judged there.
 */
export function senderRefusal(plugin: Plugin, connection: Connection): Decision | undefined {
  const { transaction } = connection
  if (!transaction) return undefined
  const { tags } = stateOf(transaction)
  const party = partyOf(connection)
  const sender = plain(transaction.mail_from)
  const decision = judgeSender(runtime.domains.value, sender, party, ownsOf(party))
  if (decision && decision.code >= 400) return decision
  const tag = decision && tagOf(decision, 'sender')
  if (decision && tags.sender !== tag) record(plugin, connection, decision)
  if (tag) tags.sender = tag
  else delete tags.sender
  return undefined
}
