// A message in Haraka's outbound queue on its way out: over our next-hop client, and what becomes of each recipient.

import { Transform, type Writable } from 'node:stream'
import { isWhollyStuffed } from '../../../core/haraka/message'
import type { QueuedMail } from '../../../core/haraka/types'
import type { NextHopClient } from '../../../core/next-hop/client'
import { isAccepted, type Outcome, type Reply } from '../../../core/next-hop/reply'
import type { Route } from '../../../core/next-hop/route'
import { clean } from '../../../core/text'
import type { Memory } from '../policy/bounce'
import { note, sentence } from './dsn'
import { wire } from './forward'

const LF = 0x0a
const DOT = 0x2e

/** How long a queued message may look for a host and wait for a connection, ms: it has time. */
const QUEUE_BUDGET = 300_000

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
  const silent = new Set(outcomes.flatMap(({ reply }) => (reply.answered ? [] : [clean(reply.text)])))
  if (silent.size > 0) mail.lognotice(`the next hop gave no answer: ${[...silent].join('; ')}`)
  const good = those(isAccepted)
  const later = those((reply) => !isAccepted(reply) && reply.code < 500)
  const never = those((reply) => reply.code >= 500)
  const first = (code: (reply: Reply) => boolean) => {
    const outcome = outcomes.find(({ reply }) => code(reply))
    return outcome ? sentence(outcome.reply) : 'no answer'
  }
  if (later.length > 0) {
    mail.refcount++
    mail.split_to_new_recipients(later, 'Some recipients temporarily failed', (part) => {
      mail.discard()
      noteAll(part, outcomes)
      part.temp_fail(first((reply) => reply.code < 500 && !isAccepted(reply)))
    })
  }
  if (never.length > 0) {
    mail.refcount++
    mail.split_to_new_recipients(never, 'Some recipients rejected', (part) => {
      mail.discard()
      noteAll(part, outcomes)
      part.bounce(first((reply) => reply.code >= 500))
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

/** Core's split writes a queue file of its own for a part, whose recipients come back without what was noted on them. */
function noteAll(part: QueuedMail, outcomes: Outcome[]) {
  const replies = new Map(outcomes.map(({ recipient, reply }) => [recipient, reply]))
  for (const address of part.todo.rcpt_to) {
    const reply = replies.get(wire(address))
    if (reply) note(address, reply)
  }
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
    return answer ? [{ recipient, reply: { host: '', ...answer, answered: true } }] : []
  })
  const answered = new Set(known.map(({ recipient }) => recipient))
  const open = recipients.filter((recipient) => !answered.has(recipient))
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
    file.pipe(unstuffing(isWhollyStuffed(mail.todo.notes))).pipe(body)
  })
}

/**
 * Takes the stuffed dots of a queue file out (RFC 5321 4.5.2). `wholly`: from its first line on; else the header is as it
 * is, and only the body is stuffed, as Haraka's core writes it.
 */
export function unstuffing(wholly: boolean): Transform {
  let inHeader = !wholly
  let lineLength = 0
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      let from = 0
      for (let at = 0; at < chunk.length; ) {
        if (!inHeader && lineLength === 0 && chunk[at] === DOT) {
          this.push(chunk.subarray(from, at))
          from = at + 1
        }
        const lineEnd = chunk.indexOf(LF, at)
        const next = lineEnd < 0 ? chunk.length : lineEnd + 1
        lineLength += next - at
        if (lineEnd >= 0) {
          // A header line has at least a name and a colon before its CRLF.
          if (lineLength <= 2) inHeader = false
          lineLength = 0
        }
        at = next
      }
      done(null, chunk.subarray(from))
    },
  })
}
