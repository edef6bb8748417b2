// Hooks at the queue: the message is handed over, and leaves by its route.

import { plain } from '../../../core/haraka/address'
import { acceptedInPart } from '../../../core/haraka/disk-writes'
import { mayRelay, relayRuleOf } from '../../../core/haraka/relaying'
import { answer, record } from '../../../core/haraka/reply'
import type { Connection, HarakaAddress, Next, Plugin, Transaction } from '../../../core/haraka/types'
import { isAccepted, type Outcome } from '../../../core/next-hop/reply'
import { clean } from '../../../core/text'
import { STOCK_DELIVERY } from '../other-queues'
import { noQueuePlugin } from '../policy/queued-route'
import { ruleOf } from '../policy/recipient'
import type { DeliveryChoice } from '../policy/route-choice'
import type { Domain } from '../table'
import { finalCheck, messageRefusal } from './data'
import { decide, send, wire } from './forward'
import { informed } from './look-up'
import { enqueue, rememberClient } from './outbound'
import { judge, runtime } from './runtime'
import { skipPlugins, stateOf } from './transaction'

/** Seconds for one hook: above every deadline of ours, as RCPT's budget and the whole hand-over (Settings.handOver). */
export const HOOK_TIMEOUT = 3900

/** Plugins that sign what core's queue takes. The older ones ask no note whether it is signed. */
const SIGNERS = ['dkim', 'dkim_sign']

/**
 * Stock queue plugins deliver whatever reaches them: only mail for domains with `delivery = plugin` may. Whatever they
 * queue, and whoever does, is remembered as the mail of this client.
 */
export const keep_from_others = informed(function (this, next, connection) {
  const { transaction } = connection
  if (!transaction) return next()
  if (!rememberClient(connection, transaction).mayRelay) skipPlugins(transaction, SIGNERS)
  if (!forOthers(connection, transaction)) skipPlugins(transaction, STOCK_DELIVERY)
  next()
})

/** The message of a client that may not relay. */
export const hand_over = informed(async function (this, next, connection) {
  const { transaction } = connection
  if (!transaction) return next()
  connection.client.setTimeout?.(HOOK_TIMEOUT * 1000)
  try {
    const refusal = messageRefusal(this, connection) ?? (await finalCheck(connection))
    const { choice } = stateOf(transaction)
    if (refusal) answer(this, next, connection, refusal)
    else if (choice?.delivery === 'forward') await forward(this, next, connection, transaction, choice)
    else if (choice?.delivery === 'queue') await queue(this, next, connection, transaction)
    else next()
  } finally {
    connection.client.setTimeout?.(runtime.inactivity)
  }
})

async function forward(
  plugin: Plugin,
  next: Next,
  connection: Connection,
  transaction: Transaction,
  choice: DeliveryChoice,
) {
  const outcomes = await send(transaction)
  if (connection.transaction !== transaction) return next()
  const bad = outcomes.filter(({ reply }) => !isAccepted(reply))
  const good = outcomes.find(({ reply }) => isAccepted(reply))
  const rest = new Set(good ? await queueTheRest(plugin, connection, transaction, bad) : [])
  const said = good?.reply ?? bad.find(({ reply }) => reply.code < 500)?.reply ?? bad[0]?.reply
  if (!said) throw new Error('the next hop gave no outcome')
  const decision = decide(said, choice, isAccepted(said) ? 'message.forwarded' : 'message')
  const about = {
    to: addressesOf(transaction.rcpt_to.filter((recipient) => !rest.has(recipient))),
    ...(said.host && {
      host: said.host,
      said: `${said.code} ${said.status ?? ''} ${said.text}`.replace(/ +/g, ' '),
    }),
  }
  if (!isAccepted(decision)) return answer(plugin, next, connection, decision, about)
  record(plugin, connection, decision, about)
  next(OK, `${decision.status} ${clean(decision.text)}`)
}

const addressesOf = (recipients: HarakaAddress[]): string =>
  recipients.map((each) => plain(each).address).join(' ')

/**
 * The next hop took the message for some: the others go to the queue, which tries again or sends a DSN. These are those
 * whom LMTP refused, and targets of an alias that have another next hop. Returns them.
 */
async function queueTheRest(
  plugin: Plugin,
  connection: Connection,
  transaction: Transaction,
  bad: Outcome[],
): Promise<HarakaAddress[]> {
  const all = transaction.rcpt_to
  const { queued } = stateOf(transaction)
  const refusedHere = new Set(bad.map(({ recipient }) => recipient))
  const rest = all.filter((recipient) => queued.has(plain(recipient)) || refusedHere.has(wire(recipient)))
  if (rest.length === 0) return []
  const refused = bad.filter(({ reply }) => reply.code >= 500)
  transaction.rcpt_to = rest
  acceptedInPart(transaction)
  try {
    await enqueue(plugin, connection, transaction, refused)
  } finally {
    transaction.rcpt_to = all
  }
  return rest
}

/** The message of a client that may relay: the queue, each recipient by its own route. */
export const hand_over_relayed = informed(async function (this, next, connection) {
  const { transaction } = connection
  if (!transaction) return next()
  const refusal = messageRefusal(this, connection) ?? (await finalCheck(connection))
  if (refusal) answer(this, next, connection, refusal)
  else if (forOthers(connection, transaction)) next()
  else await queue(this, next, connection, transaction)
})

async function queue(plugin: Plugin, next: Next, connection: Connection, transaction: Transaction) {
  const to = addressesOf(transaction.rcpt_to)
  await enqueue(plugin, connection, transaction)
  const rule = mayRelay(connection)
    ? relayRuleOf(connection)
    : ruleOf(stateOf(transaction).choice!.domain, 'delivery = queue')
  record(
    plugin,
    connection,
    { outcome: 'message.queued', code: 250, status: '2.0.0', text: 'Message queued', rule },
    { to },
  )
  next(OK, '2.0.0 Message queued')
}

/** Some recipient is in a domain with `delivery = plugin`: the message is for other queue plugins. */
const forOthers = (connection: Connection, { rcpt_to }: Transaction): Domain | undefined =>
  rcpt_to
    .map((recipient) => judge(connection, recipient).accepted?.domain)
    .find((domain) => domain?.delivery === 'plugin')

/** Left alone, core would deliver a relaying client's message to the MX, which may well be this server. */
export const nobody_took_it = informed(function (this, next, connection) {
  const { transaction } = connection
  const domain = transaction && forOthers(connection, transaction)
  if (!domain) return next()
  const decision = noQueuePlugin(domain)
  if (mayRelay(connection)) return answer(this, next, connection, decision)
  // Here core's own answer to a message that nobody took has the right code, 451, and takes our words.
  record(this, connection, decision)
  next(CONT, `${decision.status} ${decision.text}`)
})
