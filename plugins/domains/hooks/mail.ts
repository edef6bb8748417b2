// Hooks at MAIL: who may write in our name.
import { answer, type Decision, guarded, record } from '../../../core/decision'
import { mayRelay, userOf } from '../../../core/haraka/relaying'
import { spfPass } from '../../../core/haraka/spf-result'
import type { Address, Connection, Plugin } from '../../../core/haraka/types'
import { ours } from '../../../core/registry'
import { type Author, judgeSender } from '../policy/recipient'
import { live } from './runtime'
import { stateOf } from './transaction'

export const begin = guarded(function (
  this,
  next,
  connection,
  params: [Address, Record<string, string | null>],
) {
  if (connection.transaction) stateOf(connection.transaction).parameters = params[1] ?? {}
  next()
})

/** After other plugins' mail hooks, because SPF speaks there. */
export const judge_sender = guarded(function (this, next, connection) {
  const refusal = senderRefusal(this, connection)
  if (refusal) answer(this, next, connection, refusal)
  else next()
})

export function senderRefusal(plugin: Plugin, connection: Connection): Decision | undefined {
  const { transaction } = connection
  if (!transaction || stateOf(transaction).senderJudged) return undefined
  const state = stateOf(transaction)
  const sender = transaction.mail_from
  const decision = judgeSender(live.domains.value, sender, authorOf(connection, [sender]))
  if (decision && decision.code >= 400) return decision
  state.senderJudged = true
  if (decision) {
    record(plugin, connection, decision)
    state.tags.push(`forged-sender; ${decision.text}`)
  }
  return undefined
}

export function authorOf(connection: Connection, addresses: { user: string; host: string }[]): Author {
  const user = userOf(connection)
  return {
    mayRelay: mayRelay(connection),
    allowed: live.domains.value.spoofAllowed.lookup(connection.remote.ip) >= 0,
    own: user !== undefined && addresses.every((address) => ours.ownsSender?.(user, address) ?? false),
    spfPass: spfPass(connection),
  }
}
