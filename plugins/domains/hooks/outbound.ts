// Haraka's outbound queue: what is put there, and where it goes from there.

import { type Decision, ownFailure } from '../../../core/decision'
import { cannotBeQueued } from '../../../core/haraka/address'
import { mayRelay } from '../../../core/haraka/relaying'
import { DSN, recordQueued } from '../../../core/haraka/reply'
import { senderSpf } from '../../../core/haraka/spf-result'
import type { Connection, Next, Outbound, Plugin, QueuedMail, Transaction } from '../../../core/haraka/types'
import type { Outcome, Reply } from '../../../core/next-hop/reply'
import type { Route } from '../../../core/next-hop/route'
import type { Memory } from '../policy/bounce'
import { queuedRoute } from '../policy/queued-route'
import { note } from './dsn'
import { bodyOf } from './forward'
import { lookUp } from './look-up'
import { deliver } from './queued-mail'
import { runtime } from './runtime'
import { stateOf } from './transaction'

/**
 * Puts the message into the outbound queue for `transaction.rcpt_to`. `refused`: recipients that are to get a DSN at
 * once. Rejects with what the queue says: a DSN is the answer to the client, and recorded.
 */
export function enqueue(
  plugin: Plugin,
  connection: Connection,
  transaction: Transaction,
  refused: Outcome[] = [],
): Promise<void> {
  const fatal = transaction.rcpt_to.find(cannotBeQueued)
  if (fatal) return Promise.reject(new Error(`Haraka 3.2 cannot queue mail for the domain ${fatal.host}`))
  const memory = rememberClient(connection, transaction)
  if (refused.length > 0) {
    memory.refused = Object.fromEntries(
      refused.map(({ recipient, reply }) => [
        recipient,
        { code: reply.code, status: reply.status ?? '5.0.0', text: reply.text, host: reply.host },
      ]),
    )
  }
  const outbound = plugin.haraka_require('outbound') as Outbound
  return new Promise((resolve, reject) =>
    outbound.send_trans_email(transaction, (code, message = '') =>
      code === OK
        ? resolve()
        : reject(message instanceof DSN ? message : new Error(String(message || NOT_TAKEN))),
    ),
  )
}

/**
 * Writes into the notes of the message, which go into its queue file whoever queues it, what is known of the client.
 * A stranger's message is marked as signed: the stock dkim plugin signs whatever core's queue takes, with the key of the
 * domain in From:, and it would leave with our signature. Returns the memory.
 */
export function rememberClient(connection: Connection, transaction: Transaction): Memory {
  const memory: Memory = {
    ip: connection.remote.ip,
    mayRelay: mayRelay(connection),
    spfPass: senderSpf(connection) === 'pass',
    ...bodyOf(stateOf(transaction).parameters),
  }
  transaction.notes['relay_guard'] = memory
  if (!memory.mayRelay) transaction.notes['dkim_signed'] = true
  return memory
}

const NOT_TAKEN = 'the queue did not take the message'

/** What was remembered of the client who brought a queued message; undefined where it was queued without us. */
export const memoryOf = ({ todo }: QueuedMail) => todo.notes['relay_guard'] as Memory | undefined

/** Asked at each try, so that the configuration in force at the try decides. */
export const route = queued(function (next, mail, host) {
  // What an earlier try put there: the item lives until its last try.
  delete mail.found_mx
  const { route, held, othersMayRoute } = queuedRoute(runtime.domains.value, host, memoryOf(mail))
  if (held && !othersMayRoute) hold(this, next, mail, host, held)
  else if (route) sendBy(this, next, mail, host, route)
  else next()
})

/** Left alone, core would send to the MX what is for a domain with `delivery = plugin`. */
export const never_to_mx = queued(function (next, mail, host) {
  const { held } = queuedRoute(runtime.domains.value, host, memoryOf(mail))
  if (held) hold(this, next, mail, host, held)
  else next()
})

type QueuedHandler = (this: Plugin, next: Next, mail: QueuedMail, host: string) => void

/** The handler runs when the host is looked up. Where it fails the message waits: Haraka would send it to the MX. */
function queued(handler: QueuedHandler): QueuedHandler {
  return function (next, mail, host) {
    const run = () => {
      try {
        handler.call(this, next, mail, host)
      } catch (error) {
        mail.logerror(this, 'failed:', error)
        hold(this, next, mail, host, ownFailure(this))
      }
    }
    const wait = lookUp([host])
    if (wait) void wait.then(run)
    else run()
  }
}

/** Haraka would deliver with a client of its own that keeps to neither `tls` nor the deadlines of the route. */
function sendBy(plugin: Plugin, next: Next, mail: QueuedMail, host: string, route: Route) {
  heldFor.delete(mail)
  mail.found_mx = async () => {
    try {
      await deliver(mail, route, runtime.client)
    } catch (error) {
      mail.logerror(plugin, `delivering by ${route.key} failed:`, error)
      mail.temp_fail('451 4.3.0 Local problem')
    }
  }
  next(OK, { exchange: host, priority: 0 })
}

/** The outcome that is in the log for a message that waits: it is told once, not at each try. */
const heldFor = new WeakMap<QueuedMail, string>()

/** The message waits in the queue until the configuration is mended, or Haraka gives up. */
function hold(plugin: Plugin, next: Next, mail: QueuedMail, host: string, held: Decision) {
  if (heldFor.get(mail) !== held.outcome) recordQueued(plugin, mail, held, memoryOf(mail)?.ip)
  heldFor.set(mail, held.outcome)
  const reply: Reply = { ...held, answered: false, host: '' }
  const reason = `${held.code} ${held.status} ${held.text}`
  mail.found_mx = () => {
    for (const recipient of mail.todo.rcpt_to) note(recipient, reply, reason)
    mail.temp_fail(reason)
    return Promise.resolve()
  }
  next(OK, { exchange: host, priority: 0 })
}
