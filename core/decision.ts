// A decision as a value, and the one place that speaks it: reply, result, log line.
import type { Connection, Next, Plugin } from './haraka/types'

/** Which line of which file decided. Prints as `acl.ini [never] 198.51.100.0/24`. */
export interface Rule {
  file: string
  section: string
  key: string
}

export interface Decision {
  /** The name in statistics and the log stream, e.g. `recipient.relay-denied`. */
  outcome: string
  /** The basic reply code (RFC 5321 4.2): 2xx accepts, 4xx asks to come back, 5xx refuses. */
  code: number
  /** The enhanced status code (RFC 3463). */
  status: string
  /** One line that says why. What comes from outside is cleaned when it is spoken. */
  text: string
  rule: Rule
  /** For the log only: what the client need not know. */
  detail?: string
  /** Close the connection after the reply. */
  close?: boolean
  /** Said to the same client a moment ago, and perhaps a thousand times: not each is worth a line in the log. */
  again?: boolean
}

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

export const printRule = ({ file, section, key }: Rule): string => `${file} [${section}]${key && ` ${key}`}`

/** What could end a line, or hide or turn text round in a terminal or a log. */
const UNSAFE =
  /[^\x20-\x7e\u00a0-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd]+|[\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]+/g

/** Replaces what is not safe, and cuts to `length` octets: SMTP reply lines end at 512 (RFC 5321 4.5.3.1.5). */
export function clean(text: string, length = 400): string {
  const safe = text.slice(0, 4 * length).replace(UNSAFE, ' ')
  const octets = Buffer.from(safe)
  return octets.length <= length
    ? safe
    : octets
        .subarray(0, length)
        .toString()
        .replace(/\ufffd+$/, '')
}

/** The id in a reply that leads to the log line: the first 8 characters of Haraka's id, and the transaction's number. */
export const replyId = ({ uuid, transaction }: Connection): string =>
  transaction ? uuid.slice(0, 8) + transaction.uuid.slice(uuid.length) : uuid.slice(0, 8)

/** A decision as it was spoken. */
export interface Spoken {
  /** Unix ms. */
  time: number
  plugin: string
  accepted: boolean
  id: string
  outcome: string
  rule: string
  ip: string
  user?: string
  from?: string
  to?: string
  /** Whom it is counted for; without it, the ip. */
  subject?: string
  reply?: string
}

let listener: ((decision: Spoken) => void) | undefined

/** Sends every decision of this process to `hear` too, instead of whoever heard them before. */
export function onDecision(hear: (decision: Spoken) => void): void {
  listener = hear
}

/** Writes a decision to Haraka's results and to one line of its log. `about` is what it was about, e.g. `{ to: 'a@b.example' }`. */
export function record(
  plugin: Plugin,
  connection: Connection,
  decision: Decision,
  about: Record<string, string> = {},
): Spoken {
  const { transaction } = connection
  const rule = printRule(decision.rule)
  const results = transaction?.results ?? connection.results
  const said = `${decision.outcome} by ${rule}`
  const accepted = decision.code < 400
  // Let through, but not as if nothing were: a refusal in the making.
  const noted = !accepted || /-(?:shadow|tagged)$/.test(decision.outcome)
  if (!decision.again) results.add(plugin, accepted ? { pass: said } : { fail: said })
  const from = transaction?.mail_from?.address
  const line = {
    id: replyId(connection),
    outcome: decision.outcome,
    rule,
    ip: connection.remote.ip,
    ...(connection.notes.auth_user && { user: clean(connection.notes.auth_user) }),
    ...(transaction && { from: clean(from || '<>') }),
    ...Object.fromEntries(Object.entries(about).map(([name, value]) => [name, clean(value)])),
    ...(decision.detail && { detail: clean(decision.detail) }),
    ...(!accepted && { reply: clean(`${decision.code} ${decision.status} ${decision.text}`) }),
  }
  const left = decision.again ? leftOut() : 0
  if (left !== undefined)
    connection[noted ? 'lognotice' : 'loginfo'](plugin, 'decision', {
      ...line,
      ...(left && { left_out: left }),
    })
  const spoken = { time: Date.now(), plugin: plugin.name, accepted: !noted, ...line }
  listener?.(spoken)
  return spoken
}

/** The same refusal once more, of a client that Haraka has no connection for. */
export function noteAgain(plugin: Plugin, spoken: Spoken): void {
  const left = leftOut()
  if (left !== undefined) {
    const { time: _time, plugin: _plugin, accepted: _accepted, ...line } = spoken
    plugin.lognotice('decision', { ...line, ...(left && { left_out: left }) })
  }
  listener?.({ ...spoken, time: Date.now() })
}

let repeated = 0
let repeatedAt = Number.NEGATIVE_INFINITY

/** Of refusals said again one line a second is logged, with how many were not; undefined: this one is not. */
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
): Spoken {
  const spoken = record(plugin, connection, decision, about)
  if (decision.code < 400) {
    next(CONT)
    return spoken
  }
  const soft = decision.code < 500
  const code = decision.close ? (soft ? DENYSOFTDISCONNECT : DENYDISCONNECT) : soft ? DENYSOFT : DENY
  next(code, new DSN(decision.code, `${decision.status} ${clean(decision.text)} (id ${spoken.id})`))
  return spoken
}

/** What an error of our own becomes: never a refusal for good, never a right (451 4.3.0). */
export const ownFailure = (plugin: Plugin): Decision => ({
  outcome: 'error',
  code: 451,
  status: '4.3.0',
  text: 'Local problem, try again later',
  rule: { file: plugin.name, section: 'error', key: '' },
})

/**
 * Wraps a hook so that an exception or a rejected promise becomes 451 4.3.0. Haraka takes a hook that throws as one
 * that let pass, and a rejection that nobody catches ends the process.
 */
export function guarded<A extends unknown[]>(
  handler: (this: Plugin, next: Next, connection: Connection, ...rest: A) => unknown,
) {
  return function (this: Plugin, next: Next, connection: Connection, ...rest: A): unknown {
    const failed = (error: unknown) => {
      connection.logerror(this, 'failed:', error)
      answer(this, next, connection, ownFailure(this))
    }
    try {
      const outcome = handler.call(this, next, connection, ...rest)
      return outcome instanceof Promise ? outcome.catch(failed) : outcome
    } catch (error) {
      return failed(error)
    }
  }
}
