// Hooks at DATA: a last look at the envelope, and one at the message.

import type { Decision } from '../../../core/decision'
import { plain } from '../../../core/haraka/address'
import { filterMessage, lineWasCut, removeField } from '../../../core/haraka/message'
import { partyOf } from '../../../core/haraka/party-of'
import { mayRelay } from '../../../core/haraka/relaying'
import { answer, record } from '../../../core/haraka/reply'
import type { Connection, Plugin, Transaction } from '../../../core/haraka/types'
import { inNameOf } from '../policy/alias'
import { fromAddresses, valuesOf } from '../policy/header'
import { judgeFromSize, judgeLoop } from '../policy/message'
import { MessageOctets } from '../policy/octets'
import { nextHopConflict } from '../policy/route-choice'
import { judgeFrom, tagOf } from '../policy/sender'
import { aliasOf, forgetRefused } from './alias'
import { match } from './forward'
import { informed } from './look-up'
import { senderRefusal } from './mail'
import { rememberClient } from './outbound'
import { redirect } from './redirect'
import { deliveryChoiceFor, judge, ownsOf, runtime } from './runtime'
import { stateOf } from './transaction'

const TAG = 'X-Relay-Guard'

/** Once more all recipients, whatever happened since, and the next hop must hold the same ones as we do. */
export const last_look = informed(async function (this, next, connection) {
  if (connection.transaction) {
    forgetRefused(connection.transaction, 0)
    readOctets(connection.transaction)
  }
  const refusal =
    noRecipients(connection) ?? senderRefusal(this, connection) ?? (await finalCheck(connection))
  if (refusal) answer(this, next, connection, refusal)
  else next()
})

/** Of a refused alias core leaves recipients behind, and so asks for data (RFC 5321 3.3). */
const noRecipients = ({ transaction }: Connection): Decision | undefined =>
  transaction?.rcpt_to.length === 0
    ? {
        outcome: 'message.no-recipients',
        code: 554,
        status: '5.5.1',
        text: 'No valid recipients',
        rule: { file: 'domains.ini', section: 'main', key: '' },
      }
    : undefined

function readOctets(transaction: Transaction) {
  const state = stateOf(transaction)
  if (state.octets) return
  state.octets = new MessageOctets()
  filterMessage(transaction, state.octets, TAG)
}

/** Judges every recipient once more, and makes the next hop hold exactly these. Returns the first refusal, if any. */
export async function finalCheck(connection: Connection): Promise<Decision | undefined> {
  const { transaction } = connection
  if (!transaction) return undefined
  const state = stateOf(transaction)
  delete state.choice
  for (const [at, recipient] of transaction.rcpt_to.entries()) {
    const { accepted, refused } = judge(connection, recipient)
    if (refused)
      return { ...refused, outcome: refused.code < 500 ? 'message.domain-unknown' : 'message.relay-denied' }
    const isQueued = state.queued.has(plain(recipient))
    // Another plugin's OK at rcpt_ok keeps ask_next_hop from doing it.
    const target = accepted.instead ? redirect(transaction, at, accepted.instead) : recipient
    if (isQueued) {
      state.queued.add(plain(target))
      continue
    }
    const choice = deliveryChoiceFor(connection, accepted.domain)
    const conflict = nextHopConflict(state.choice, choice)
    if (conflict) return conflict
    if (choice) state.choice = choice
  }
  if (state.choice?.delivery !== 'forward') return undefined
  const no = await match(runtime.client, transaction, state.choice)
  const asked = no && aliasOf(no.recipient)
  return asked ? inNameOf(asked, no.decision, plain(no.recipient).address) : no?.decision
}

/** Refuses a message that cannot leave as it came, loops, or is forged. From here on other plugins may queue it. */
export const judge_message = informed(function (this, next, connection) {
  if (connection.transaction) rememberClient(connection, connection.transaction)
  const refusal = messageRefusal(this, connection)
  if (refusal) answer(this, next, connection, refusal)
  else next()
})

/** Judges the message, once; called again at the queue, because another plugin may have ended the hook before us. */
export function messageRefusal(plugin: Plugin, connection: Connection): Decision | undefined {
  const { transaction } = connection
  if (!transaction) return undefined
  const state = stateOf(transaction)
  if (state.messageJudged) return undefined
  const refusal =
    senderRefusal(plugin, connection) ??
    malformedMessage(transaction) ??
    judgeContent(plugin, connection, transaction)
  state.messageJudged = refusal === undefined
  return refusal
}

function malformedMessage(transaction: Transaction): Decision | undefined {
  const { octets } = stateOf(transaction)
  if (!octets) throw new Error('the message was not read: another plugin ended the hook data before this one')
  if (lineWasCut(transaction)) octets.refuse(`A line is longer than ${runtime.lineLength} octets`)
  return octets.refusal
}

function judgeContent(
  plugin: Plugin,
  connection: Connection,
  transaction: Transaction,
): Decision | undefined {
  const fields = transaction.header.lines()
  const loop = judgeLoop(fields, transaction.uuid, connection.local.host)
  if (loop || mayRelay(connection)) return loop
  const forged = judgeAuthor(connection, fields)
  if (forged && forged.code >= 400) return forged
  const { tags } = stateOf(transaction)
  if (forged) {
    record(plugin, connection, forged)
    tags.from = tagOf(forged, 'from')
  }
  removeField(transaction, TAG)
  for (const tag of [tags.from, tags.sender]) if (tag) transaction.add_leading_header(TAG, tag)
  return undefined
}

function judgeAuthor(connection: Connection, fields: string[]): Decision | undefined {
  const config = runtime.domains.value
  if (config.antiSpoofFrom === 'off') return undefined
  const values = valuesOf(fields, 'From')
  const tooLong = judgeFromSize(values)
  if (tooLong) return tooLong
  const from = fromAddresses(values)
  const party = partyOf(connection)
  return judgeFrom(config, from, party, ownsOf(party))
}
