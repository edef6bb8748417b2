// Recipient verification at RCPT: what is cached of a recipient or asked about it, and the client's answer.
import type { Decision } from '../../../core/decision'
import { plain } from '../../../core/haraka/address'
import { mayRelay } from '../../../core/haraka/relaying'
import type { Connection, HarakaAddress, Transaction } from '../../../core/haraka/types'
import { domainOf, unquoted } from '../../../core/mail-address'
import { isAccepted, type Reply } from '../../../core/next-hop/reply'
import type { Subject } from '../callout'
import { isVerified, noQuestionTaken, notAsked, unknownMailbox } from '../policy/callout'
import type { DeliveryChoice } from '../policy/route-choice'
import type { Domain } from '../table'
import { ask, decide, wire } from './forward'
import { judge, runtime } from './runtime'

/** A client that may relay waits so long, ms, for what is not cached: it is ours, and may be sent a DSN. */
const QUICK = 2_000

/** Whom to ask about a recipient; undefined where nobody is asked. postmaster@ is taken unasked (RFC 5321 4.5.1). */
function subjectOf(domain: Domain | undefined, recipient: HarakaAddress): Subject | undefined {
  const { user, host } = plain(recipient)
  const local = unquoted(user).toLowerCase()
  if (!domain?.route || !isVerified(domain) || local === 'postmaster') return undefined
  return { route: domain.route, address: wire(recipient), name: `${local}@${domainOf(host)}` }
}

/** Why a recipient is not accepted for the queue; undefined: it may be. */
export async function verifyQueued(
  connection: Connection,
  recipient: HarakaAddress,
): Promise<Decision | undefined> {
  const domain = judge(connection, recipient).accepted?.domain
  const subject = subjectOf(domain, recipient)
  if (!domain || !subject) return undefined
  if (mayRelay(connection)) return verifyRelayed(domain, subject)
  const { answer, reply, isOverLimit } = await runtime.callouts.verify(subject)
  if (answer)
    return answer.state === 'known' ? undefined : unknownMailbox(domain, answer.reply, subject.address)
  if (isOverLimit || !reply) return notAsked()
  if (reply.refusedSender && reply.code >= 500) return noQuestionTaken(domain, reply)
  return decide(reply, { domain }, 'recipient')
}

/**
 * Mail of clients that may relay goes to the queue, whatever the next hop does now: only an unknown mailbox is refused,
 * if that is cached, or under `queue` soon known.
 */
async function verifyRelayed(domain: Domain, subject: Subject): Promise<Decision | undefined> {
  const { callouts } = runtime
  const asked = domain.delivery === 'queue' ? soon(callouts.verify(subject)) : undefined
  const answer = asked ? (await asked)?.answer : await callouts.cached(subject)
  return answer?.state === 'unknown' ? unknownMailbox(domain, answer.reply, subject.address) : undefined
}

async function soon<T>(promise: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, QUICK, undefined)
  })
  const first = await Promise.race([promise, late])
  clearTimeout(timer)
  return first
}

/**
 * Under `forward` the next hop is asked on the connection that delivers. A cached `unknown` refuses without it; who is
 * not cached as known counts as one of `questions`, and if the next hop takes him, does not.
 */
export async function askForwarded(
  connection: Connection,
  transaction: Transaction,
  choice: DeliveryChoice,
  recipient: HarakaAddress,
): Promise<Decision> {
  const { callouts, client } = runtime
  const { domain } = choice
  const told = (reply: Reply) => decide(reply, choice, isAccepted(reply) ? 'recipient.accepted' : 'recipient')
  const subject = subjectOf(domain, recipient)
  if (!subject) return told(await ask(client, transaction, choice, recipient))
  const cached = await callouts.cached(subject)
  if (cached?.state === 'unknown') return unknownMailbox(domain, cached.reply, subject.address)
  const permit = cached ? undefined : await callouts.permit(subject)
  if (!cached && !permit) return notAsked()
  if (connection.transaction !== transaction) {
    permit?.giveBack()
    return notAsked()
  }
  const reply = await ask(client, transaction, choice, recipient)
  if (isAccepted(reply)) permit?.giveBack()
  else permit?.spend()
  callouts.learn(subject, reply, wire(transaction.mail_from) === '')
  return told(reply)
}
