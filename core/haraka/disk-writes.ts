// What Haraka writes to disk: the queue files of its outbound queue, and the spool files of large messages. Left alone,
// a full disk makes it accept halves: after a failed write it closes the queue file and renames it into the queue beside
// unlinking it, whichever comes first, and a spool file counts as written before its last write has failed.

import { unlink } from 'node:fs'
import type { Writable } from 'node:stream'
import { type Decision, ownFailure } from '../decision'
import { type DSN, recordRefusal } from './reply'
import type { Connection, Outbound, Plugin, Transaction } from './types'

/** Asked before a client's message is written to the queue, and told what came of it. */
export interface QueueGate {
  /** The answer to the client where there is no room for the message; undefined: write it. */
  refuse(connection: Connection, transaction: Transaction): DSN | undefined
  /** It could not be written, although there seemed to be room. Returns the answer to the client, if it knows one. */
  failed(connection: Connection, error: NodeJS.ErrnoException): DSN | undefined
}

interface OutboundFiles extends Outbound {
  build_todo(todo: { message_stream?: object }, file: Writable & { path?: string }, more: () => void): void
}

/** No space, or no more of it for this user. */
const FULL = ['ENOSPC', 'EDQUOT']

let gate: QueueGate | undefined

/** Makes this the gate of the queue. There is one at a time. */
export function guardQueue(by: QueueGate): void {
  gate = by
}

/** Messages that the next hop has taken for some of their recipients: the others cannot be refused any more. */
const promised = new WeakSet<Transaction>()

/** Lets a message into the queue without the gate: it was accepted in part already. */
export const acceptedInPart = (transaction: Transaction): void => void promised.add(transaction)

/** The connection that a transaction belongs to; undefined for mail of our own, as a DSN. */
export function clientOf({ results }: Transaction): Connection | undefined {
  const { conn } = (results ?? {}) as { conn?: Connection }
  return conn?.remote ? conn : undefined
}

const taken = new WeakSet<object>()

/** Takes over how Haraka writes queue and spool files, for all messages of this process; again it does nothing. */
export function takeOverDiskWrites(plugin: Plugin): void {
  const outbound = plugin.haraka_require('outbound') as OutboundFiles
  const { Transaction } = plugin.haraka_require('transaction') as { Transaction: { prototype: Transaction } }
  if (taken.has(outbound)) return
  taken.add(outbound)
  keepHalvesOut(outbound)
  answerFailures(plugin, outbound)
  awaitSpool(Transaction.prototype)
}

/** Why the queue file of a message could not be written, by its message stream. */
const failures = new WeakMap<object, NodeJS.ErrnoException>()

/** After a failed write the file is closed and not renamed: whoever hears of its end would take it for whole. */
function keepHalvesOut(outbound: OutboundFiles): void {
  const { build_todo } = outbound
  outbound.build_todo = function (todo, file, more) {
    file.prependOnceListener('error', (error: NodeJS.ErrnoException) => {
      file.removeAllListeners('close')
      if (todo.message_stream) failures.set(todo.message_stream, error)
      if (file.path) unlink(file.path, () => undefined)
    })
    build_todo.call(this, todo, file, more)
  }
}

/** Core answers 550 where the queue could not take a message now: the sender would not come again. */
function answerFailures(plugin: Plugin, outbound: OutboundFiles): void {
  const { send_trans_email } = outbound
  outbound.send_trans_email = function (transaction, done) {
    const client = clientOf(transaction)
    const refused = client && !promised.has(transaction) ? gate?.refuse(client, transaction) : undefined
    if (refused) {
      done(DENYSOFT, refused)
      return
    }
    send_trans_email.call(this, transaction, (code, message) => {
      if (code !== DENYSOFT || !client) return done(code, message)
      const error = failures.get(transaction.message_stream) ?? new Error('the queue did not take it')
      const own = () => recordRefusal(plugin, client, { ...ownFailure(plugin), ...notWritten(error) })
      done(code, gate?.failed(client, error) ?? own())
    })
  }
}

/** Why the message cannot be taken now, where a write failed. */
export const notWritten = ({
  code = '',
}: NodeJS.ErrnoException): Pick<Decision, 'code' | 'status' | 'text'> =>
  FULL.includes(code)
    ? { code: 452, status: '4.3.1', text: 'Not enough disk space, try again later' }
    : { code: 451, status: '4.3.0', text: 'Local problem, try again later' }

/**
 * The end of a spool file is told before the error of its last write: a moment later both are known. The client has its
 * 421 then, and its message goes nowhere.
 */
function awaitSpool(prototype: Transaction): void {
  const { end_data } = prototype
  prototype.end_data = function (done) {
    const stream = this.message_stream
    let isBroken = false
    stream.once('error', () => {
      isBroken = true
    })
    end_data.call(this, () => {
      if (!stream.spooling) return done()
      setImmediate(() => {
        if (!isBroken) done()
      })
    })
  }
}

/** Where Haraka writes messages, by its own configuration. */
export interface DiskPlaces {
  /** The folder of the outbound queue. */
  queue: string
  /** The folder of spool files; undefined where no message is large enough to be spooled. */
  spool: string | undefined
  /** Bytes from which on a message is spooled. */
  spoolAfter: number
}

/** Bytes, as haraka-message-stream and Haraka's connection.ini have them. */
const SPOOL_AFTER = 25 * 2 ** 20
const LARGEST = 26_214_400

/** Reads them: `queue_dir`, and spool_dir, spool_after and bytes of connection.ini. */
export function diskPlaces(plugin: Plugin): DiskPlaces {
  const { queue_dir } = plugin.haraka_require('outbound/queue') as { queue_dir: string }
  const { main = {}, max = {} } = (plugin.config.get('connection.ini') ?? {}) as {
    main?: { spool_dir?: string; spool_after?: string | number }
    max?: { bytes?: string | number }
  }
  const after = Number(main.spool_after ?? SPOOL_AFTER)
  const spoolAfter = after === -1 ? Number.POSITIVE_INFINITY : after >= 0 ? after : SPOOL_AFTER
  const largest = Number(max.bytes ?? LARGEST) || Number.POSITIVE_INFINITY
  const isUsed = spoolAfter < largest
  return { queue: queue_dir, spool: isUsed ? (main.spool_dir ?? '/tmp') : undefined, spoolAfter }
}

/** `always_split` of outbound.ini, as it is in force: a queue file for each recipient instead of each domain. */
export function isSplit(plugin: Plugin): boolean {
  const { cfg } = plugin.haraka_require('outbound/config') as { cfg: { always_split?: boolean } }
  return cfg.always_split === true
}
