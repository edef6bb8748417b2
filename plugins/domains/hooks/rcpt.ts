// Hooks at RCPT: the relay decision, and the next hop's own answer.

import { ownFailure } from '../../../core/decision'
import { plain } from '../../../core/haraka/address'
import { mayRelay } from '../../../core/haraka/relaying'
import { answer, record } from '../../../core/haraka/reply'
import type { Connection, HarakaAddress, Transaction } from '../../../core/haraka/types'
import { isAccepted } from '../../../core/next-hop/reply'
import { clean } from '../../../core/text'
import { inNameOf } from '../policy/alias'
import { type DeliveryChoice, nextHopConflict } from '../policy/route-choice'
import { aliasRefusal, aliasTargets, chooseAliasWay, rememberAsked } from './alias'
import { informed } from './look-up'
import { senderRefusal } from './mail'
import { redirect } from './redirect'
import { deliveryChoiceFor, judge } from './runtime'
import { stateOf } from './transaction'
import { askForwarded, verifyQueued } from './verify'

const about = (recipient: HarakaAddress) => ({ to: plain(recipient).address })

/** First, so that nobody is asked about a recipient that is refused anyway. */
export const judge_recipient = informed(function (this, next, connection, params: [HarakaAddress]) {
  if (connection.transaction) rememberAsked(connection.transaction, params[0])
  const refusal = senderRefusal(this, connection) ?? judge(connection, params[0]).refused
  if (refusal) answer(this, next, connection, refusal, about(params[0]))
  else next()
}, 'asked')

/** Last of the rcpt hooks, so that other plugins may refuse before. */
export const accept_ours = informed(function (this, next, connection, params: [HarakaAddress]) {
  const { transaction } = connection
  const refusal = transaction && aliasRefusal(connection, transaction)
  if (refusal) return answer(this, next, connection, refusal, about(stateOf(transaction).asked!.address))
  next(judge(connection, params[0]).accepted ? OK : CONT)
}, 'asked')

/** The relay decision, whichever plugin accepted the recipient. */
export const last_word = informed(function (this, next, connection, recipient: HarakaAddress) {
  const { transaction } = connection
  if (!transaction) return next()
  const { accepted, refused } = judge(connection, recipient)
  const state = stateOf(transaction)
  const taken = takenWay(connection, transaction)
  if (taken) state.choice = taken
  else delete state.choice
  const alias = chooseAliasWay(connection, transaction)
  const refusal =
    senderRefusal(this, connection) ??
    aliasRefusal(connection, transaction) ??
    refused ??
    alias?.refused ??
    nextHopConflict(taken, alias?.way ?? deliveryChoiceFor(connection, accepted?.domain))
  if (refusal) return answer(this, next, connection, refusal, about(state.asked?.address ?? recipient))
  next()
}, 'asked')

/**
 * The way of the recipients before this one. They are looked at anew, because not every RCPT comes to ask_next_hop:
 * another plugin may end rcpt_ok with OK, or refuse there.
 */
function takenWay(connection: Connection, transaction: Transaction): DeliveryChoice | undefined {
  if (mayRelay(connection)) return undefined
  const { asked, queued } = stateOf(transaction)
  const before = asked?.at ?? transaction.rcpt_to.length - 1
  for (const [at, recipient] of transaction.rcpt_to.entries()) {
    if (at >= before) break
    if (queued.has(plain(recipient))) continue
    const way = deliveryChoiceFor(connection, judge(connection, recipient).accepted?.domain)
    if (way) return way
  }
  return undefined
}

/** After everything else that may refuse, because a RCPT cannot be taken back at the next hop. */
export const ask_next_hop = informed(async function (this, next, connection, recipient: HarakaAddress) {
  const { transaction } = connection
  const { accepted } = judge(connection, recipient)
  if (!transaction || !accepted) return answer(this, next, connection, ownFailure(this), about(recipient))
  const alias = aliasTargets(transaction)
  const way = chooseAliasWay(connection, transaction)?.way ?? deliveryChoiceFor(connection, accepted.domain)
  const target = accepted.instead
    ? redirect(transaction, transaction.rcpt_to.length - 1, accepted.instead)
    : recipient
  const { queued } = stateOf(transaction)
  let decision = accepted.decision
  for (const one of alias?.targets ?? [target]) {
    if (!isAccepted(decision)) break
    if (way?.delivery === 'forward' && !queued.has(plain(one)))
      decision = await askForwarded(connection, transaction, way, one)
    // <postmaster> is taken by every rule.
    else if (!accepted.instead) decision = (await verifyQueued(connection, one)) ?? decision
    if (connection.transaction !== transaction) return next()
  }
  const named = alias ? inNameOf(alias.asked, decision, plain(target).address) : decision
  if (!isAccepted(named)) return answer(this, next, connection, named, about(alias?.asked ?? target))
  record(this, connection, named, about(alias?.asked ?? target))
  delete stateOf(transaction).asked
  next(CONT, `${named.status} ${clean(named.text)}`)
}, 'asked')
