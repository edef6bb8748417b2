// Hooks at DATA: a last look at the envelope, and one at the message.

import type { Decision } from '../../../core/decision'
import { mayRelay } from '../../../core/haraka/relaying'
import { answer, guarded, record } from '../../../core/haraka/reply'
import type { Connection } from '../../../core/haraka/types'
import { fromAddresses, judgeLoop } from '../policy/message'
import { judgeFrom } from '../policy/recipient'
import { match } from './forward'
import { authorOf } from './mail'
import { nextHopConflict } from './rcpt'
import { deliveryChoiceFor, judge, runtime } from './runtime'
import { stateOf } from './transaction'

const HEADER = 'X-Relay-Guard'

/** Once more all recipients, whatever happened since, and the next hop must hold the same ones as we do. */
export const last_look = guarded(async function (this, next, connection) {
  const refusal = await finalCheck(connection)
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
    const way = deliveryChoiceFor(connection, accepted?.domain)
    const conflict = nextHopConflict(transaction, way)
    if (conflict) return conflict
    if (way) state.choice = way
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
  const decision = judgeFrom(runtime.domains.value, from, authorOf(connection, from))
  if (decision && decision.code >= 400) return answer(this, next, connection, decision)
  if (decision) {
    record(this, connection, decision)
    stateOf(transaction).tags.push(`forged-from; ${decision.text}`)
  }
  transaction.remove_header(HEADER)
  for (const tag of stateOf(transaction).tags) transaction.add_header(HEADER, tag)
  next()
})
