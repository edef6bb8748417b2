// The envelope of one transaction on one session: MAIL and RCPT.
import { domainToASCII } from 'node:url'
import { HostFailure, isAccepted, type Reply, type Said, toReply } from './reply'
import type { Envelope } from './route'
import type { Session } from './session'

const NON_ASCII = /[^\0-\x7f]/

/** Non-ASCII before the @: only SMTPUTF8 can carry it (RFC 6531). */
export function needsUtf8(address: string): boolean {
  const at = address.lastIndexOf('@')
  return NON_ASCII.test(at < 0 ? address : address.slice(0, at))
}

/** Why this host cannot be told this recipient: the refusal it gets. Nothing in an address may end a line. */
export function unsayable(session: Session, { mailFrom }: Envelope, recipient: string): Reply | undefined {
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

/**
 * Says MAIL and each RCPT, after RSET if a transaction is open. A refused MAIL is each recipient's answer.
 * Rejects with HostFailure.
 */
export async function sayEnvelope(
  session: Session,
  envelope: Envelope,
  recipients: string[],
  step: () => number,
): Promise<Map<string, Reply>> {
  const { host } = session
  const replies = new Map<string, Reply>()
  for (const recipient of recipients) {
    const refusal = unsayable(session, envelope, recipient)
    if (refusal) replies.set(recipient, refusal)
  }
  const sayable = recipients.filter((recipient) => !replies.has(recipient))
  const reset = session.inTransaction ? ['RSET'] : []
  if (!sayable.length) {
    for (const said of await session.askAll(reset, step)) requireReset(said)
    session.inTransaction = false
    return replies
  }
  const withUtf8 =
    needsUtf8(envelope.mailFrom) ||
    sayable.some(needsUtf8) ||
    (envelope.utf8 === true && session.offers('SMTPUTF8'))
  session.inTransaction = true
  session.transactions++
  const said = await session.askAll(
    [...reset, mailLine(session, envelope, withUtf8), ...sayable.map(rcptLine)],
    step,
  )
  session.reused = false
  session.utf8 = withUtf8
  said.slice(0, reset.length).forEach(requireReset)
  const [mail, ...rcpts] = said.slice(reset.length)
  session.inTransaction = mail !== undefined && isAccepted(mail)
  sayable.forEach((recipient, index) => {
    const answer = mail && isAccepted(mail) ? rcpts[index] : mail
    if (answer) replies.set(recipient, toReply(answer, host))
  })
  return replies
}

function requireReset({ code }: Said) {
  if (code !== 250) throw new HostFailure(`answered RSET with ${code}`)
}

/** Says one more RCPT. Rejects with HostFailure. */
export async function sayRecipient(session: Session, recipient: string, ms: number): Promise<Reply> {
  return toReply(await session.ask(rcptLine(recipient), ms), session.host)
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
