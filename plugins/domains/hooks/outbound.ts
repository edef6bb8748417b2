// Haraka's outbound queue: what is put there, and where it goes from there.

import { Transform, type Writable } from 'node:stream'
import { printRule } from '../../../core/decision'
import { mayRelay } from '../../../core/haraka/relaying'
import { senderSpf } from '../../../core/haraka/spf-result'
import type {
  Address,
  Connection,
  Outbound,
  Plugin,
  QueuedMail,
  Transaction,
} from '../../../core/haraka/types'
import { domainOf } from '../../../core/mail-address'
import type { NextHopClient } from '../../../core/next-hop/client'
import { isAccepted, type Outcome, type Reply } from '../../../core/next-hop/reply'
import type { Route } from '../../../core/next-hop/route'
import { clean } from '../../../core/text'
import type { DomainsConfig } from '../config'
import { bodyOf, wire } from './forward'
import { stateOf } from './transaction'

/** How long a queued message may look for a host and wait for a connection, ms: it has time. */
const QUEUE_BUDGET = 300_000

/** What a queued message remembers of the client who brought it. It is written to the queue file. */
interface Memory {
  mayRelay: boolean
  spfPass: boolean
  /** Said with MAIL, and said again to the next hop. */
  eightBit: boolean
  utf8: boolean
  /** Answers for good that LMTP gave after the message, by recipient. */
  refused?: Record<string, { code: number; status: string; text: string }>
}

/** Puts the message into the outbound queue. Rejects with what the queue says. */
export function enqueue(
  plugin: Plugin,
  connection: Connection,
  transaction: Transaction,
  refused: Outcome[] = [],
): Promise<void> {
  const memory: Memory = {
    mayRelay: mayRelay(connection),
    spfPass: senderSpf(connection) === 'pass',
    ...bodyOf(stateOf(transaction).parameters),
  }
  if (refused.length > 0) {
    memory.refused = Object.fromEntries(
      refused.map(({ recipient, reply }) => [
        recipient,
        { code: reply.code, status: reply.status ?? '5.0.0', text: reply.text },
      ]),
    )
  }
  transaction.notes['relay_guard'] = memory
  const outbound = plugin.haraka_require('outbound') as Outbound
  return new Promise((resolve, reject) =>
    outbound.send_trans_email(transaction, (code, message = '') =>
      code === OK ? resolve() : reject(new Error(message || 'the queue did not take the message')),
    ),
  )
}

/** The route of a queued message's domain: ours, or the smarthost; undefined: the MX. */
export function routeOf(config: DomainsConfig, host: string): Route | undefined {
  const name = domainOf(host)
  const domain = name === undefined ? undefined : config.domains.find(name)
  return domain ? domain.route : config.smarthost
}

/**
 * Delivers a queued message over our next-hop client, which holds to `tls`, to AUTH and to the deadlines of the route;
 * Haraka's own would send in the clear where AUTH or TLS is not offered. Haraka keeps the queue, retries and bounces.
 */
export async function deliver(mail: QueuedMail, route: Route, client: NextHopClient): Promise<void> {
  const recipients = new Map(mail.todo.rcpt_to.map((address) => [wire(address), address]))
  const outcomes = await outcomesOf(mail, route, client, [...recipients.keys()])
  const those = (wanted: (reply: Reply) => boolean) =>
    outcomes.flatMap(({ recipient, reply }) => {
      const address = recipients.get(recipient)
      return address && wanted(reply) ? [note(address, reply)] : []
    })
  const good = those(isAccepted)
  const later = those((reply) => !isAccepted(reply) && reply.code < 500)
  const never = those((reply) => reply.code >= 500)
  const first = (code: (reply: Reply) => boolean) => outcomes.find(({ reply }) => code(reply))?.reply
  if (later.length > 0) {
    mail.refcount++
    mail.split_to_new_recipients(later, 'Some recipients temporarily failed', (part) => {
      mail.discard()
      part.temp_fail(sentence(first((reply) => reply.code < 500 && !isAccepted(reply))))
    })
  }
  if (never.length > 0) {
    mail.refcount++
    mail.split_to_new_recipients(never, 'Some recipients rejected', (part) => {
      mail.discard()
      part.bounce(sentence(first((reply) => reply.code >= 500)))
    })
  }
  const accepted = outcomes.find(({ reply }) => isAccepted(reply))
  if (!accepted) return mail.discard()
  const { reply, peer } = accepted
  mail.delivered(
    peer?.ip ?? '',
    peer?.port ?? 0,
    peer?.protocol ?? 'SMTP',
    peer?.host ?? reply.host,
    reply.text,
    good,
    later,
    never,
    peer?.tls ?? false,
    peer?.authenticated ?? false,
  )
}

async function outcomesOf(
  mail: QueuedMail,
  route: Route,
  client: NextHopClient,
  recipients: string[],
): Promise<Outcome[]> {
  const {
    refused,
    eightBit = false,
    utf8 = false,
  } = (mail.todo.notes['relay_guard'] ?? {}) as Partial<Memory>
  const known = recipients.flatMap((recipient): Outcome[] => {
    const answer = refused && Object.hasOwn(refused, recipient) ? refused[recipient] : undefined
    return answer ? [{ recipient, reply: { ...answer, answered: true, host: '' } }] : []
  })
  const open = recipients.filter((recipient) => !known.some((outcome) => outcome.recipient === recipient))
  if (open.length === 0) return known
  const envelope = { mailFrom: wire(mail.todo.mail_from), eightBit, utf8 }
  const delivery = client.open(route, envelope, { budget: QUEUE_BUDGET })
  const answers = await delivery.hold(open)
  const refusals = answers.filter(({ reply }) => !isAccepted(reply))
  if (refusals.length === open.length) {
    delivery.abort()
    return [...known, ...refusals]
  }
  return [...known, ...refusals, ...(await delivery.send((body) => pour(mail, body)))]
}

/** Resolves when the message is written or nobody wants more of it. Rejects when the queue file cannot be read. */
function pour(mail: QueuedMail, body: Writable): Promise<void> {
  return new Promise((resolve, reject) => {
    const file = mail.data_stream()
    file.once('error', reject)
    body.once('finish', resolve)
    body.once('close', () => {
      file.destroy()
      resolve()
    })
    file.pipe(unstuffing()).pipe(body)
  })
}

/** The queue file holds the message as it came over the wire, dots stuffed (RFC 5321 4.5.2). */
export function unstuffing(): Transform {
  let atStart = true
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      let from = 0
      for (let at = 0; at < chunk.length; at++) {
        if (atStart && chunk[at] === 0x2e) {
          this.push(chunk.subarray(from, at))
          from = at + 1
        }
        const lineEnd = chunk.indexOf(0x0a, at)
        atStart = lineEnd >= 0
        at = lineEnd < 0 ? chunk.length : lineEnd
      }
      done(null, chunk.subarray(from))
    },
  })
}

const sentence = (reply: Reply | undefined): string =>
  reply ? `${reply.code} ${reply.status ?? ''} ${clean(reply.text)}` : 'no answer'

/** What Haraka's DSN says of a recipient (RFC 3464). */
function note(address: Address, reply: Reply): Address {
  if (isAccepted(reply)) return address
  const { code, status, text, host } = reply
  return Object.assign(address, {
    reason: sentence(reply),
    dsn_action: code < 500 ? 'delayed' : 'failed',
    dsn_smtp_code: String(code),
    dsn_smtp_extc: status,
    dsn_status: status ?? (code < 500 ? '4.0.0' : '5.0.0'),
    dsn_smtp_response: clean(text),
    dsn_remote_mta: host,
  })
}

/** Whether a DSN may go out for this message: never to somebody who may not have written it. */
export function mayBounce(config: DomainsConfig, mail: QueuedMail): boolean {
  const memory = mail.todo?.notes?.['relay_guard'] as Memory | undefined
  if (!memory || memory.mayRelay || config.bounce === 'send') return true
  if (config.bounce === 'verified' && memory.spfPass) return true
  const rule = printRule({ file: 'domains.ini', section: 'main', key: `bounce = ${config.bounce}` })
  mail.lognotice('decision', {
    outcome: 'bounce.dropped',
    rule,
    from: clean(mail.todo.mail_from.address || '<>'),
  })
  return false
}
