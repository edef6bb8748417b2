// The one place that gives a decision to Haraka: reply, result and log line.
import { type Decision, type DecisionRecord, ownFailure, printRule } from '../decision'
import { clean } from '../text'
import { plain } from './address'
import type { Connection, Next, Plugin, QueuedMail } from './types'

/**
 * A reply with a code of our own. Haraka's core fixes the basic code by the hook (550 or 450), but takes
 * `code` and `reply` from any object whose class has this name.
 */
export class DSN {
  constructor(
    readonly code: number,
    readonly reply: string,
  ) {}
}

/** The id in a reply that leads to the log line: the first 8 characters of Haraka's id, and the transaction's number. */
export const replyId = ({ uuid, transaction }: Connection): string =>
  transaction ? uuid.slice(0, 8) + transaction.uuid.slice(uuid.length) : uuid.slice(0, 8)

/** What one line of the log says of a decision. */
type Line = Pick<DecisionRecord, 'id' | 'outcome' | 'rule' | 'ip' | 'user' | 'from' | 'reply'> &
  Record<string, string>

let listener: ((decision: DecisionRecord) => void) | undefined

/** Makes `hear` the listener of every decision of this process. There is one listener at a time. */
export function onDecision(hear: (decision: DecisionRecord) => void): void {
  listener = hear
}

/** Writes a decision to Haraka's results and to one line of its log. `about` is what it was about, e.g. `{ to: 'a@b.example' }`. */
export function record(
  plugin: Plugin,
  connection: Connection,
  decision: Decision,
  about: Record<string, string> = {},
): DecisionRecord {
  const { transaction } = connection
  const rule = printRule(decision.rule)
  const results = transaction?.results ?? connection.results
  const said = `${decision.outcome} by ${rule}`
  const accepted = decision.code < 400
  // Accepted, but worth notice: it would be refused with another `action`.
  const noted = !accepted || /-(?:shadow|tagged)$/.test(decision.outcome)
  // Without `human` Haraka would write out all results of the transaction again for each of its recipients.
  if (!decision.again) results.add(plugin, { [accepted ? 'pass' : 'fail']: said, human: said })
  const from = transaction?.mail_from && plain(transaction.mail_from).address
  const line: Line = {
    id: replyId(connection),
    outcome: decision.outcome,
    rule,
    ip: connection.remote.ip,
  }
  const user = connection.notes.auth_user
  if (user) line.user = clean(user)
  if (transaction) line.from = clean(from || '<>')
  for (const name of Object.keys(about)) line[name] = clean(about[name] ?? '')
  if (decision.detail) line['detail'] = clean(decision.detail)
  if (!accepted) line.reply = clean(`${decision.code} ${decision.status} ${decision.text}`)
  const left = decision.again ? leftOut() : 0
  if (left !== undefined)
    connection[noted ? 'lognotice' : 'loginfo'](plugin, 'decision', left ? { ...line, left_out: left } : line)
  const spoken = { time: Date.now(), plugin: plugin.name, accepted: !noted, ...line }
  listener?.(spoken)
  return spoken
}

/** Records a decision about queued mail, for which there is no connection: log line and statistics. Nobody is answered. */
export function recordQueued(plugin: Plugin, mail: QueuedMail, decision: Decision, ip = ''): DecisionRecord {
  const { uuid = '', mail_from, rcpt_to } = mail.todo
  const line = {
    id: uuid.replace(/^(.{8})[^.]*(\.\d+)?.*$/, '$1$2'),
    outcome: decision.outcome,
    rule: printRule(decision.rule),
    ip,
    from: clean(plain(mail_from).address || '<>'),
    to: clean(rcpt_to.map((each) => plain(each).address).join(' ')),
    reply: clean(`${decision.code} ${decision.status} ${decision.text}`),
  }
  mail.lognotice(plugin, 'decision', line)
  const spoken = { time: Date.now(), plugin: plugin.name, accepted: false, ...line }
  listener?.(spoken)
  return spoken
}

/** Records a repeated refusal of a client that was turned away before Haraka made a Connection. */
export function recordRepeat(
  plugin: Plugin,
  line: Omit<DecisionRecord, 'time' | 'plugin' | 'accepted'>,
): void {
  const left = leftOut()
  if (left !== undefined) plugin.lognotice('decision', { ...line, ...(left && { left_out: left }) })
  listener?.({ time: Date.now(), plugin: plugin.name, accepted: false, ...line })
}

let repeated = 0
let repeatedAt = Number.NEGATIVE_INFINITY

/**
 * Repeated refusals get one log line a second. Returns how many went without a line since, or undefined where this one
 * gets none either.
 */
function leftOut(): number | undefined {
  const now = performance.now()
  if (now - repeatedAt < 1000) {
    repeated++
    return undefined
  }
  const left = repeated
  repeated = 0
  repeatedAt = now
  return left
}

/** Records a decision and answers the hook with it. An acceptance continues (CONT). */
export function answer(
  plugin: Plugin,
  next: Next,
  connection: Connection,
  decision: Decision,
  about: Record<string, string> = {},
): DecisionRecord {
  const spoken = record(plugin, connection, decision, about)
  if (decision.code < 400) {
    next(CONT)
    return spoken
  }
  const soft = decision.code < 500
  const code = decision.close ? (soft ? DENYSOFTDISCONNECT : DENYDISCONNECT) : soft ? DENYSOFT : DENY
  next(code, dsnOf(decision, spoken))
  return spoken
}

const dsnOf = ({ code, status, text }: Decision, { id }: DecisionRecord): DSN =>
  new DSN(code, `${status} ${clean(text)} (id ${id})`)

/** Records a refusal and returns the reply, for who answers the client by other ways than the answer to a hook. */
export const recordRefusal = (plugin: Plugin, connection: Connection, decision: Decision): DSN =>
  dsnOf(decision, record(plugin, connection, decision))

/**
 * Wraps a hook so that an exception or a rejected promise becomes 451 4.3.0. Haraka takes a hook that throws as one
 * that let pass, and a rejection that nobody catches ends the process.
 */
export function guarded<P = void>(
  handler: (this: Plugin, next: Next, connection: Connection, params: P) => unknown,
) {
  return function (this: Plugin, next: Next, connection: Connection, params: P): unknown {
    try {
      const outcome = handler.call(this, next, connection, params)
      if (!(outcome instanceof Promise)) return outcome
      return outcome.catch((error) => failed(this, next, connection, error))
    } catch (error) {
      return failed(this, next, connection, error)
    }
  }
}

function failed(plugin: Plugin, next: Next, connection: Connection, error: unknown): void {
  // The queue did not take the message: the refusal is recorded already.
  if (error instanceof DSN) {
    next(DENYSOFT, error)
    return
  }
  connection.logerror(plugin, 'failed:', error)
  answer(plugin, next, connection, ownFailure(plugin))
}
