// The hooks: at connect, MAIL and DATA, and before a message is written to the queue.
import type { Decision } from '../../core/decision'
import { plain } from '../../core/haraka/address'
import { clientOf, notWritten, type QueueGate } from '../../core/haraka/disk-writes'
import { forgetRefused, held, rememberRefused } from '../../core/haraka/early-refusal'
import { clientName, partyOf } from '../../core/haraka/party-of'
import { answer, guarded, recordRefusal } from '../../core/haraka/reply'
import type { Connection, HarakaAddress, Next, Plugin, Transaction } from '../../core/haraka/types'
import type { Kind } from './config'
import type { Monitor } from './monitor'
import { type Asking, judge, printSize, refusal } from './policy'

/** What a running worker holds. Filled by `register`, before any hook runs. */
export const runtime = {} as {
  plugin: Plugin
  monitor: Monitor
  /** Whether core's queue has a file for each recipient. */
  isSplit(): boolean
}

/** On a connection that was let in: the client that was; XCLIENT makes it another. */
const LET_IN = Symbol('relay-guard let in')
type Counted = Connection & { [LET_IN]?: string }

/** Where users hand in mail, after a login (RFC 6409, RFC 8314); core knows them by these numbers, too. */
const SUBMISSION = [587, 465]

function asking(connection: Connection, stage: Asking['stage']): Asking {
  const { classification, mayRelay, user } = partyOf(connection)
  const isKnown = classification.class === 'relay' || mayRelay || user !== undefined
  return { stage, isSubmission: SUBMISSION.includes(connection.local.port), isKnown }
}

/** At lookup_rdns, before DNS is asked, and at connect, where XCLIENT comes back as another client. */
export const judge_connection = guarded(function (this, next, connection: Counted) {
  const { monitor } = runtime
  if (connection[LET_IN] === clientName(connection)) return next()
  const isNew = connection[LET_IN] === undefined
  if (isNew) monitor.update(monitor.connections + 1)
  const decision = judge(monitor.states, asking(connection, 'connect'))
  if (decision) return refuseConnection(this, next, connection, decision)
  if (isNew) monitor.connections++
  connection[LET_IN] = clientName(connection)
  next()
})

/** Of all who are remembered as refused for the load of this server. */
const TAG = 'overload'
/** ms that a refused client is refused at accept(), which costs a quarter, unless the state ends before. */
const REMEMBERED = 2000

/** When a refusal had a line in the log: in a flood of them one a second has. */
let toldAt = Number.NEGATIVE_INFINITY

function refuseConnection(plugin: Plugin, next: Next, connection: Connection, decision: Decision) {
  const now = performance.now()
  const again = now - toldAt < 1000
  if (!again) toldAt = now
  const spoken = answer(plugin, held(next), connection, again ? { ...decision, again } : decision)
  rememberRefused(plugin, connection, { decision, spoken, wait: REMEMBERED, tag: TAG })
}

/** A state has changed: whoever was refused for it is judged anew. */
export const judgeAnew = (): void => forgetRefused(TAG)

/** SIZE, as a message of so many bytes was announced (RFC 1870). */
function sizeOf(parameters: Record<string, string | null> = {}): number {
  const size = Number(parameters['SIZE'])
  return size > 0 && Number.isSafeInteger(size) ? size : 0
}

/** What there was no room for is told in bytes. */
const noRoom = (kind: Kind, bytes: number) =>
  refusal(kind, 'mail', `${kind} has no room for ${printSize(bytes)} beside what other clients are sending`)

/** Nothing is left on the disk, or so much waits, or comes in, that nothing would be; and load, where users log in first. */
export const judge_mail = guarded(function (
  this,
  next,
  connection,
  [, parameters]: [HarakaAddress, Record<string, string | null>],
) {
  const { monitor } = runtime
  const { transaction } = connection
  const size = sizeOf(parameters)
  const decision = judge(monitor.states, asking(connection, 'mail'))
  if (decision) return answer(this, next, connection, decision)
  const kind =
    transaction && monitor.noRoomFor(transaction, size, 1, size > monitor.claims.spoolAfter ? size : 0)
  if (kind) return answer(this, next, connection, noRoom(kind, size))
  if (transaction) {
    monitor.claims.announce(transaction, size)
    monitor.changed()
  }
  next()
})

/** The disk may have filled since MAIL, and the message would be sent in vain. */
export const judge_data = guarded(function (this, next, connection) {
  const { transaction } = connection
  if (!transaction) return next()
  const { queue, spool } = runtime.monitor.claims.of(transaction)
  const kind = runtime.monitor.noRoomFor(transaction, queue, 1, spool)
  if (kind) return answer(this, next, connection, noRoom(kind, queue))
  next()
})

/** The transaction ends, whatever came of it. */
export function end_message(this: Plugin, next: Next, connection: Connection): void {
  const { transaction } = connection
  if (transaction) {
    runtime.monitor.claims.end(transaction, performance.now())
    runtime.monitor.changed()
  }
  next()
}

/** Gives back the connection's place. */
export function disconnect(this: Plugin, next: Next, connection: Counted): void {
  if (connection[LET_IN] !== undefined) {
    runtime.monitor.connections--
    delete connection[LET_IN]
  }
  next()
}

/** Core writes one file a domain, or with `always_split` one a recipient. */
const filesOf = ({ rcpt_to }: Transaction): number =>
  runtime.isSplit() ? rcpt_to.length : new Set(rcpt_to.map((each) => plain(each).host)).size

/** Claims the room for a message whose size is known now, with a file for each domain; the answer where there is none. */
function claimRoom(transaction: Transaction): Decision | undefined {
  const { monitor } = runtime
  const files = filesOf(transaction)
  if (monitor.claims.filesOf(transaction) >= files) return undefined
  const { queue } = monitor.claims.queue(transaction, files)
  const kind = monitor.noRoomFor(transaction, queue, files)
  monitor.changed()
  if (!kind) return undefined
  monitor.claims.announce(transaction, 0)
  return noRoom(kind, queue)
}

/** The message is there. Core replies at the queue with 450 whatever we say, here with 452. */
export const judge_message = guarded(function (this, next, connection) {
  const { transaction } = connection
  const decision = transaction && claimRoom(transaction)
  if (decision) answer(this, next, connection, decision)
  else next()
})

/** Where another plugin ended data_post before us, or a message has become one for more domains since. */
export const queueGate: QueueGate = {
  refuse(connection, transaction) {
    const decision = claimRoom(transaction)
    return decision && recordRefusal(runtime.plugin, connection, decision)
  },
  failed(connection, error) {
    if (notWritten(error).code !== 452) return undefined
    return recordRefusal(runtime.plugin, connection, refusal('disk', 'mail', error.message))
  },
}

/** In the midst of a message: 421 may be said at any time (RFC 5321 3.8), and the client comes again. */
export function breakOff(transaction: Transaction, figure: string): void {
  const connection = clientOf(transaction)
  if (connection?.transaction !== transaction) return
  const dsn = recordRefusal(runtime.plugin, connection, { ...refusal('disk', 'mail', figure), code: 421 })
  connection.respond(421, dsn, () => connection.disconnect())
}
