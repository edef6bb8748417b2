// Hooks at DATA: a last look at the envelope, and one at the message.

import type { Decision } from '../../../core/decision'
import { partyOf } from '../../../core/haraka/party-of'
import { mayRelay } from '../../../core/haraka/relaying'
import { answer, guarded, record } from '../../../core/haraka/reply'
import type { Connection } from '../../../core/haraka/types'
import { fromAddresses, judgeLoop } from '../policy/message'
import { nextHopConflict } from '../policy/route-choice'
import { judgeFrom } from '../policy/sender'
import { match } from './forward'
import { senderRefusal } from './mail'
import { deliveryChoiceFor, judge, ownsOf, runtime } from './runtime'
import { stateOf } from './transaction'

const HEADER = 'X-Relay-Guard'

/** Once more all recipients, whatever happened since, and the next hop must hold the same ones as we do. */
export const last_look = guarded(async function (this, next, connection) {
  const refusal = senderRefusal(this, connection) ?? (await finalCheck(connection))
  if (refusal) answer(this, next, connection, refusal)
  else next()
})

export async function finalCheck(connection: Connection): Promise<Decision | undefined> {
  const { transaction } = connection
  if (!transaction) return undefined
  const state = stateOf(transaction)
  delete state.choice
  for (const recipient of transaction.rcpt_to) {
    const { accepted, refused } = judge(connection, recipient)
    if (refused) return { ...refused, outcome: 'message.relay-denied' }
    const choice = deliveryChoiceFor(connection, accepted?.domain)
    const conflict = nextHopConflict(state.choice, choice)
    if (conflict) return conflict
    if (choice) state.choice = choice
  }
  return state.choice?.delivery === 'forward' ? match(runtime.client, transaction, state.choice) : undefined
}

export const judge_message = guarded(function (this, next, connection) {
  const { transaction } = connection
  if (!transaction) return next()
  const loop = judgeLoop(transaction, connection.local.host)
  if (loop) return answer(this, next, connection, loop)
  if (mayRelay(connection)) return next()
  const from = fromAddresses(transaction)
  const party = partyOf(connection)
  const decision = judgeFrom(runtime.domains.value, from, party, ownsOf(party))
  if (decision && decision.code >= 400) return answer(this, next, connection, decision)
  const { tags } = stateOf(transaction)
  if (decision) {
    record(this, connection, decision)
    tags.from = `forged-from; ${decision.text}`
  }
  transaction.remove_header(HEADER)
  for (const tag of [tags.sender, tags.from]) if (tag) transaction.add_header(HEADER, tag)
  next()
})
