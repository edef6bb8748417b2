// Hooks at RCPT: the relay decision, and the next hop's own answer.

import { ownFailure } from '../../../core/decision'
import { plain } from '../../../core/haraka/address'
import { answer, guarded, record } from '../../../core/haraka/reply'
import type { HarakaAddress, Transaction } from '../../../core/haraka/types'
import { isAccepted } from '../../../core/next-hop/reply'
import type { Mailbox } from '../../../core/party'
import { clean } from '../../../core/text'
import { inNameOf } from '../policy/alias'
import { nextHopConflict } from '../policy/route-choice'
import { aliasRefusal, aliasTargets, chooseAliasWay, rememberAsked } from './alias'
import { ask } from './forward'
import { senderRefusal } from './mail'
import { deliveryChoiceFor, judge, runtime } from './runtime'
import { stateOf } from './transaction'

const about = (recipient: HarakaAddress) => ({ to: plain(recipient).address })

/** First, so that nobody is asked about a recipient that is refused anyway. */
export const judge_recipient = guarded(function (this, next, connection, params: [HarakaAddress]) {
  if (connection.transaction) rememberAsked(connection.transaction, params[0])
  const refusal = senderRefusal(this, connection) ?? judge(connection, params[0]).refused
  if (refusal) answer(this, next, connection, refusal, about(params[0]))
  else next()
})

/** Last of the rcpt hooks, so that other plugins may refuse before. */
export const accept_ours = guarded(function (this, next, connection, params: [HarakaAddress]) {
  const { transaction } = connection
  const refusal = transaction && aliasRefusal(connection, transaction)
  if (refusal) return answer(this, next, connection, refusal, about(stateOf(transaction).asked!.address))
  next(judge(connection, params[0]).accepted ? OK : CONT)
})

/** The relay decision, whichever plugin accepted the recipient. */
export const last_word = guarded(function (this, next, connection, recipient: HarakaAddress) {
  const { transaction } = connection
  if (!transaction) return next()
  const { accepted, refused } = judge(connection, recipient)
  const alias = chooseAliasWay(connection, transaction)
  const refusal =
    senderRefusal(this, connection) ??
    aliasRefusal(connection, transaction) ??
    refused ??
    alias?.refused ??
    nextHopConflict(
      stateOf(transaction).choice,
      alias?.way ?? deliveryChoiceFor(connection, accepted?.domain),
    )
  if (refusal)
    return answer(this, next, connection, refusal, about(stateOf(transaction).asked?.address ?? recipient))
  next()
})

/** After everything else that may refuse, because a RCPT cannot be taken back at the next hop. */
export const ask_next_hop = guarded(async function (this, next, connection, recipient: HarakaAddress) {
  const { transaction } = connection
  const { accepted } = judge(connection, recipient)
  if (!transaction || !accepted) return answer(this, next, connection, ownFailure(this), about(recipient))
  const alias = aliasTargets(transaction)
  const way = chooseAliasWay(connection, transaction)?.way ?? deliveryChoiceFor(connection, accepted.domain)
  const target = accepted.instead ? redirect(transaction, recipient, accepted.instead) : recipient
  const { queued } = stateOf(transaction)
  let decision = accepted.decision
  for (const one of alias?.targets.filter((each) => !queued.has(each)) ?? [target]) {
    if (way?.delivery !== 'forward' || !isAccepted(decision)) break
    decision = await ask(runtime.client, transaction, way, one)
    if (connection.transaction !== transaction) return next()
  }
  const named = alias ? inNameOf(alias.asked, decision, plain(target).address) : decision
  if (!isAccepted(named)) return answer(this, next, connection, named, about(alias?.asked ?? target))
  if (way) stateOf(transaction).choice = way
  record(this, connection, named, about(alias?.asked ?? target))
  delete stateOf(transaction).asked
  next(CONT, `${named.status} ${clean(named.text)}`)
})

/** Puts the address where <postmaster> goes in its place. */
function redirect(transaction: Transaction, from: HarakaAddress, to: Mailbox): HarakaAddress {
  const Constructor = from.constructor as new (user: string, host: string) => HarakaAddress
  const address = new Constructor(to.user, to.host)
  transaction.rcpt_to[transaction.rcpt_to.length - 1] = address
  return address
}
