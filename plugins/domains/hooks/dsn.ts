// What a DSN says of each recipient (RFC 3464 2.3). It goes to a sender outside: nothing of what is behind us is in it but
// the words in which a next hop refused.
import { plain } from '../../../core/haraka/address'
import type { HarakaAddress, QueuedMail } from '../../../core/haraka/types'
import { isAccepted, type Reply } from '../../../core/next-hop/reply'
import { clean } from '../../../core/text'
import { shownText } from './forward'

/** What core writes into a DSN, as it keeps it on a recipient. A Remote-MTA would name a host behind us. */
interface DsnFields {
  reason?: string | undefined
  dsn_action?: 'delayed' | 'failed' | undefined
  dsn_status?: string | undefined
  dsn_code?: string | number | undefined
  dsn_msg?: string | undefined
  dsn_smtp_code?: string | undefined
  dsn_smtp_extc?: string | undefined
  dsn_smtp_response?: string | undefined
  dsn_remote_mta?: string | undefined
}

/** Core's error about a message that it bounces. `bounced_rcpt`, `deferred_rcpt`: the recipients before it split them off. */
interface BounceError extends Error {
  bounced_rcpt?: HarakaAddress[]
  deferred_rcpt?: HarakaAddress[]
}

/** Core's words about its own queue files, which name their paths. */
const LOCAL_PROBLEM = /Error (?:splitting|re-queueing|reading)/

/** A reply as the sender may read it: `451 4.4.1 The next hop does not answer, try again later`. */
export const sentence = (reply: Reply): string =>
  `${reply.code} ${reply.status ?? ''} ${shownText(reply)}`.replace(/ +/g, ' ')

/**
 * Notes on a recipient what became of it, in place of what an earlier try left there. `reason`: one line for the sender.
 * Returns the recipient.
 */
export function note(address: HarakaAddress, reply: Reply, reason = sentence(reply)): HarakaAddress {
  if (isAccepted(reply)) return address
  const { answered, code, status } = reply
  const fields: DsnFields = {
    reason,
    dsn_action: code < 500 ? 'delayed' : 'failed',
    dsn_status: status ?? (code < 500 ? '4.0.0' : '5.0.0'),
    dsn_code: undefined,
    dsn_msg: undefined,
    // A Diagnostic-Code is what the other end said.
    dsn_smtp_code: answered ? String(code) : undefined,
    dsn_smtp_extc: answered ? status : undefined,
    dsn_smtp_response: answered ? clean(reply.text) : undefined,
    dsn_remote_mta: undefined,
  }
  return Object.assign(address, fields)
}

/** Makes what core is about to write a whole DSN: each recipient has failed, with a status, and names no host of ours. */
export function completeDsn(mail: QueuedMail, error: BounceError): void {
  if (LOCAL_PROBLEM.test(error.message)) error.message = 'Local problem'
  const unsplit: (HarakaAddress & DsnFields)[] = [
    ...(error.bounced_rcpt ?? []),
    ...(error.deferred_rcpt ?? []),
  ]
  const before = new Map(unsplit.map((each) => [plain(each).address, each]))
  for (const recipient of mail.todo.rcpt_to as (HarakaAddress & DsnFields)[]) {
    // A split by core writes the recipients into another queue file, without what it had noted on them.
    const noted = recipient.dsn_status === undefined && before.get(plain(recipient).address)
    if (noted) copyFields(noted, recipient)
    const { dsn_status, dsn_msg } = recipient
    recipient.dsn_action = 'failed'
    recipient.dsn_status = dsn_status?.replace(/^4/, '5') ?? '5.0.0'
    if (dsn_msg !== undefined && LOCAL_PROBLEM.test(dsn_msg)) recipient.dsn_msg = 'Local problem'
    delete recipient.dsn_remote_mta
  }
}

function copyFields(from: DsnFields, to: DsnFields) {
  const { reason, dsn_status, dsn_smtp_code, dsn_smtp_extc, dsn_smtp_response } = from
  Object.assign(to, { reason, dsn_status, dsn_smtp_code, dsn_smtp_extc, dsn_smtp_response })
}
