// Haraka's outbound queue: what is put there, and where it goes from there.

import { cannotBeQueued } from '../../../core/haraka/address'
import { mayRelay } from '../../../core/haraka/relaying'
import { senderSpf } from '../../../core/haraka/spf-result'
import type { Connection, Outbound, Plugin, Transaction } from '../../../core/haraka/types'
import { domainOf } from '../../../core/mail-address'
import type { Outcome } from '../../../core/next-hop/reply'
import type { Route } from '../../../core/next-hop/route'
import type { DomainsConfig } from '../config'
import type { Memory } from '../policy/bounce'
import { bodyOf } from './forward'
import { stateOf } from './transaction'

/**
 * Puts the message into the outbound queue for `transaction.rcpt_to`. `refused`: recipients that are to get a DSN at
 * once. Rejects with what the queue says.
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
      code === OK ? resolve() : reject(new Error(message || 'the queue did not take the message')),
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

/** The route of a queued message's domain: ours, or the smarthost; undefined: the MX. */
export function routeOf(config: DomainsConfig, host: string): Route | undefined {
  const name = domainOf(host)
  const domain = name === undefined ? undefined : config.domains.find(name)
  return domain ? domain.route : config.smarthost
}
