// delivery = forward: the next hop is asked at RCPT on the connection that then delivers, and its answers are ours.
import type { Decision } from '../../../core/decision'
import { plain } from '../../../core/haraka/address'
import type { HarakaAddress, Transaction } from '../../../core/haraka/types'
import type { NextHopClient } from '../../../core/next-hop/client'
import type { Delivery } from '../../../core/next-hop/delivery'
import { isAccepted, type Outcome, type Reply } from '../../../core/next-hop/reply'
import type { Route } from '../../../core/next-hop/route'
import { clean } from '../../../core/text'
import { ruleOf } from '../policy/recipient'
import type { DeliveryChoice } from '../policy/route-choice'
import { abandonDelivery, stateOf } from './transaction'

/** An address as the next hop is told it: as the client wrote it, its host in ASCII; <postmaster> has none (RFC 5321 4.5.1). */
export function wire(address: HarakaAddress): string {
  const { user, host } = plain(address)
  return host === '' ? user : `${user}@${host}`
}

/** Asks the next hop for one recipient. */
export const ask = (
  client: NextHopClient,
  transaction: Transaction,
  choice: DeliveryChoice,
  recipient: HarakaAddress,
): Promise<Reply> => deliveryFor(client, transaction, choice).rcpt(wire(recipient))

/**
 * Makes what the next hop holds equal what we accepted: a recipient that something else refused after the next hop had
 * said yes is taken back there. Returns the first recipient that it refuses now, if any.
 */
export async function match(
  client: NextHopClient,
  transaction: Transaction,
  choice: DeliveryChoice,
): Promise<{ recipient: HarakaAddress; decision: Decision } | undefined> {
  const { queued } = stateOf(transaction)
  const held = transaction.rcpt_to.filter((recipient) => !queued.has(plain(recipient)))
  const outcomes = await deliveryFor(client, transaction, choice).hold(held.map(wire))
  const no = outcomes.find(({ reply }) => !isAccepted(reply))
  const recipient = no && held.find((each) => wire(each) === no.recipient)
  return recipient && { recipient, decision: decide(no.reply, choice, 'message') }
}

/** Hands the message over. SMTP has one answer for all recipients, LMTP one each (RFC 2033 4.2). */
export async function send(transaction: Transaction): Promise<Outcome[]> {
  const { next } = stateOf(transaction)
  if (!next) return []
  const outcomes = await next.send((body) => void transaction.message_stream.pipe(body))
  delete stateOf(transaction).next
  return outcomes
}

/** The transaction with the next hop that is in force now: a reload may have named another one since the last RCPT. */
function deliveryFor(client: NextHopClient, transaction: Transaction, { domain }: DeliveryChoice): Delivery {
  const state = stateOf(transaction)
  if (state.next && state.next.route.key !== domain.route?.key) abandonDelivery(transaction)
  state.next ??= open(client, transaction, domain.route!)
  return state.next
}

function open(client: NextHopClient, transaction: Transaction, route: Route): Delivery {
  const { parameters } = stateOf(transaction)
  const size = Number(parameters['SIZE'])
  return client.open(route, {
    mailFrom: wire(transaction.mail_from),
    ...bodyOf(parameters),
    ...(size > 0 && Number.isSafeInteger(size) && { size }),
  })
}

/** What MAIL said of the message that follows (RFC 6152, RFC 6531). */
export const bodyOf = (parameters: Record<string, string | null>): { eightBit: boolean; utf8: boolean } => ({
  eightBit: parameters['BODY']?.toUpperCase() === '8BITMIME',
  utf8: Object.hasOwn(parameters, 'SMTPUTF8'),
})

/** What the client is told where the next hop gave no answer, by the reason. */
const NO_ANSWER = {
  none: { outcome: 'no-answer', text: 'The next hop does not answer, try again later' },
  local: { outcome: 'no-answer', text: 'Local problem, try again later' },
  'all in use': {
    outcome: 'next-hop-full',
    text: 'All connections to the next hop are in use, try again later',
  },
  'no more taken': {
    outcome: 'next-hop-full',
    text: 'The next hop takes no more connections now, try again later',
  },
}

/** 4.3.0: what failed is here, as a queue file that cannot be read. */
const reasonOf = ({ congested, status }: Reply) =>
  NO_ANSWER[congested ?? (status === '4.3.0' ? 'local' : 'none')]

/** What may be told outside of a reply: the next hop's own words; where it gave no answer, not why: that names hosts behind us. */
export const shownText = (reply: Reply): string => (reply.answered ? clean(reply.text) : reasonOf(reply).text)

/**
 * The next hop's own answer. Where it gave none, the client is not told why: that names hosts behind us.
 * `what`: the outcome's first half.
 */
export function decide(reply: Reply, { domain }: Pick<DeliveryChoice, 'domain'>, what: string): Decision {
  const { answered, code, text } = reply
  const status = reply.status ?? `${Math.floor(code / 100)}.0.0`
  const rule = ruleOf(domain, reply.congested === 'all in use' ? 'connections' : 'next_hop')
  if (!answered) {
    const ours = reasonOf(reply)
    return { outcome: `${what}.${ours.outcome}`, code, status, text: ours.text, rule, detail: text }
  }
  const outcome = isAccepted(reply)
    ? what
    : `${what}.${code < 500 ? 'next-hop-deferred' : 'next-hop-refused'}`
  return { outcome, code, status, text, rule }
}
