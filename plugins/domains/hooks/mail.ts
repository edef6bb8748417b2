// Hooks at MAIL: who may write in our name.

import type { Decision } from '../../../core/decision'
import { mayRelay, userOf } from '../../../core/haraka/relaying'
import { answer, guarded, record } from '../../../core/haraka/reply'
import { senderSpfPass } from '../../../core/haraka/spf-result'
import type { Address, Connection, Plugin } from '../../../core/haraka/types'
import { registry } from '../../../core/registry'
import { type Author, judgeSender } from '../policy/recipient'
import { runtime } from './runtime'
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
  const decision = judgeSender(runtime.domains.value, sender, authorOf(connection, [sender]))
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
    allowed: runtime.domains.value.spoofAllowed.lookup(connection.remote.ip) >= 0,
    own: user !== undefined && addresses.every((address) => registry.ownsSender?.(user, address) ?? false),
    spfPass: senderSpfPass(connection),
  }
}
