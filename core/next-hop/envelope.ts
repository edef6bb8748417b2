// The envelope of one transaction on one session: MAIL and RCPT.
import { domainToASCII } from 'node:url'
import {
  HostFailure,
  isAccepted,
  isDeferred,
  type RawReply,
  type Reply,
  toRecipientReply,
  toReply,
} from './reply'
import type { Envelope } from './route'
import type { Session } from './session'

const NON_ASCII = /[^\0-\x7f]/

/** Non-ASCII before the @: only SMTPUTF8 can carry it (RFC 6531). */
export function needsUtf8(address: string): boolean {
  const at = address.lastIndexOf('@')
  return NON_ASCII.test(at < 0 ? address : address.slice(0, at))
}

/** Why this host cannot be told this recipient: the refusal it gets. Nothing in an address may end a line. */
export function unsendable(session: Session, { mailFrom }: Envelope, recipient: string): Reply | undefined {
  const { host } = session
  if (/[\0-\x1f\x7f]/.test(mailFrom + recipient)) {
    return { answered: true, code: 553, status: '5.1.3', text: 'Control characters in the address', host }
  }
  if (session.offers('SMTPUTF8') || !(needsUtf8(mailFrom) || needsUtf8(recipient))) return undefined
  return {
    answered: true,
    code: 553,
    status: '5.6.7',
    text: 'The next hop takes no non-ASCII addresses',
    host,
  }
}

/** A next hop's answers to MAIL and RCPT. */
export interface EnvelopeAnswer {
  /** Each recipient's answer, in the order they were given. */
  replies: Map<string, Reply>
  /** MAIL was deferred on a session that had carried mail before: it may be spent, and a new one take the message. */
  spent: boolean
}

/**
 * Sends MAIL and each RCPT, after RSET if the session had a transaction before. A refused MAIL is each recipient's
 * answer. Afterwards `session.transaction` holds what the session accepted. Rejects with HostFailure.
 */
export async function sendEnvelope(
  session: Session,
  envelope: Envelope,
  recipients: string[],
  step: () => number,
): Promise<EnvelopeAnswer> {
  const { host } = session
  const refusals = new Map<string, Reply>()
  for (const recipient of recipients) {
    const refusal = unsendable(session, envelope, recipient)
    if (refusal) refusals.set(recipient, refusal)
  }
  const sendable = recipients.filter((recipient) => !refusals.has(recipient))
  const utf8 =
    needsUtf8(envelope.mailFrom) ||
    sendable.some(needsUtf8) ||
    (envelope.utf8 === true && session.offers('SMTPUTF8'))
  const reset = session.needsReset ? ['RSET'] : []
  const lines = sendable.length ? [mailLine(session, envelope, utf8), ...sendable.map(rcptLine)] : []
  session.transaction = undefined
  session.needsReset = lines.length > 0
  const answers = await session.askAll([...reset, ...lines], step)
  session.reused = false
  answers.slice(0, reset.length).forEach(requireReset)
  const [mail, ...rcpts] = answers.slice(reset.length)
  if (!mail) return { replies: refusals, spent: false }
  session.refusals += [mail, ...rcpts].filter((answer) => !isAccepted(answer)).length
  const spent = isDeferred(mail) && session.transactions > 0
  if (isAccepted(mail)) {
    session.transactions++
    session.transaction = {
      utf8,
      accepted: sendable.filter((_, index) => rcpts[index] && isAccepted(rcpts[index])),
    }
  }
  const replies = new Map<string, Reply>()
  let next = 0
  for (const recipient of recipients) {
    const refusal = refusals.get(recipient)
    const rcpt = refusal ? undefined : rcpts[next++]
    replies.set(
      recipient,
      refusal ??
        (rcpt && isAccepted(mail)
          ? toRecipientReply(rcpt, host)
          : { ...toReply(mail, host), refusedSender: true }),
    )
  }
  return { replies, spent }
}

/** Ends the open transaction, so that the host holds nothing of it. Rejects with HostFailure. */
export async function resetSession(session: Session, ms: number): Promise<void> {
  session.transaction = undefined
  requireReset(await session.ask('RSET', ms))
  session.needsReset = false
}

function requireReset({ code }: RawReply) {
  if (code !== 250) throw new HostFailure(`answered RSET with ${code}`)
}

/** Sends one more RCPT in the open transaction. Rejects with HostFailure. */
export async function sendRecipient(session: Session, recipient: string, ms: number): Promise<Reply> {
  const reply = toRecipientReply(await session.ask(rcptLine(recipient), ms), session.host)
  if (isAccepted(reply)) session.transaction?.accepted.push(recipient)
  else session.refusals++
  return reply
}

/** The path of an address, its domain in ASCII. */
function path(address: string): string {
  const at = address.lastIndexOf('@')
  const domain = address.slice(at + 1)
  const ascii = at >= 0 && NON_ASCII.test(domain) ? domainToASCII(domain) || domain : domain
  return `<${address.slice(0, at + 1)}${ascii}>`
}

const rcptLine = (recipient: string): string => `RCPT TO:${path(recipient)}`

function mailLine(session: Session, { mailFrom, size, eightBit }: Envelope, utf8: boolean): string {
  const parameters = [
    ...(size !== undefined && session.offers('SIZE') ? [`SIZE=${size}`] : []),
    ...(eightBit && session.offers('8BITMIME') ? ['BODY=8BITMIME'] : []),
    ...(utf8 ? ['SMTPUTF8'] : []),
  ]
  return [`MAIL FROM:${path(mailFrom)}`, ...parameters].join(' ')
}
