// What a next hop's answer to a callout says of the mailbox, and what the client is told.
import type { Decision } from '../../../core/decision'
import type { Rate } from '../../../core/limiter/rate'
import { isAccepted, type Reply } from '../../../core/next-hop/reply'
import { clean } from '../../../core/text'
import type { Domain } from '../table'

/** What domains.ini [main] says of callouts. Times in ms. */
export interface CalloutSettings {
  questions: Rate
  cacheKnown: number
  cacheUnknown: number
}

/** What is known of a mailbox. */
export type MailboxState = 'known' | 'unknown'

/** Enhanced codes that speak of the mailbox: it does not exist, has moved without a new address, has a null MX (RFC 3463, RFC 7505). */
const MAILBOX = ['5.1.1', '5.1.6', '5.1.10']
/** Codes that mean the mailbox where no enhanced one says otherwise (RFC 5321 4.2.3). */
const TERSE = [550, 551, 553]

/**
 * What an answer to RCPT says of the mailbox. `senderIsNull`: the transaction began with MAIL FROM:<>, so that a refusal
 * cannot be about a sender. Whatever speaks of something else, or of nothing, is `cannot tell`: it is passed on to the
 * client who waits, and never kept, so that nobody can switch a mailbox off.
 */
export function mailboxState(reply: Reply, senderIsNull: boolean): MailboxState | 'cannot tell' {
  const { answered, code, status, refusedSender } = reply
  if (!answered || refusedSender) return 'cannot tell'
  if (isAccepted(reply)) return 'known'
  const speaksOfMailbox =
    status === undefined ? TERSE.includes(code) : code >= 500 && MAILBOX.includes(status)
  return speaksOfMailbox && senderIsNull ? 'unknown' : 'cannot tell'
}

/** Whether recipients of a domain are asked of its next hop before mail for them is accepted. A list needs no questions. */
export const isVerified = ({ verify, recipients, route }: Domain): boolean =>
  verify === 'callout' && !recipients && route !== undefined

/** A reply as it is kept: `550 5.1.1 No such user`. */
export const printReply = ({ code, status = '', text }: Pick<Reply, 'code' | 'status' | 'text'>): string =>
  clean(`${code} ${status} ${text}`.replace(/ +/g, ' ').trim())

/** The refusal of a mailbox that the next hop does not know, in its words. `reply`: as printReply wrote it. */
export function unknownMailbox({ file, section }: Domain, reply: string, address: string): Decision {
  const [, code, status, text] = /^(5\d\d) ?(5\.\d{1,3}\.\d{1,3})?(?: |$)(.*)$/s.exec(reply) ?? []
  return {
    outcome: 'recipient.unknown',
    code: Number(code ?? 550),
    status: status ?? '5.1.1',
    text: text || clean(`<${address}> is not known here`, 200),
    rule: { file, section, key: 'verify' },
  }
}

/** The answer where the next hop was asked so much already that it is not asked about this one. */
export const notAsked = (): Decision => ({
  outcome: 'recipient.not-asked',
  code: 451,
  status: '4.7.1',
  text: 'Too many unknown recipients are being asked for at the moment, try again later',
  rule: { file: 'domains.ini', section: 'main', key: 'questions' },
})

/**
 * The answer where the next hop refuses MAIL FROM:<>, which every server must take (RFC 5321 4.5.5): that was our
 * question and not this client's mail, so it is no refusal for good.
 */
export const noQuestionTaken = ({ file, section }: Domain, reply: Reply): Decision => ({
  outcome: 'recipient.next-hop-deferred',
  code: 451,
  status: '4.3.5',
  text: 'The next hop takes no questions about recipients, try again later',
  rule: { file, section, key: 'verify' },
  detail: `MAIL FROM:<> was answered ${printReply(reply)}`,
})
