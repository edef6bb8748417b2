// Haraka is about to send a DSN: it goes out, is dropped, or waits because too many have gone to that domain.

import { plain } from '../../../core/haraka/address'
import { recordQueued } from '../../../core/haraka/reply'
import type { Next, Outbound, Plugin, QueuedMail } from '../../../core/haraka/types'
import { domainOf } from '../../../core/mail-address'
import { services } from '../../../core/services'
import { clean } from '../../../core/text'
import { type DsnRecipient, dsnCharge, mayBounce, overLimit } from '../policy/bounce'
import { CANNOT_TELL } from '../table'
import { completeDsn } from './dsn'
import { lookUp } from './look-up'
import { memoryOf } from './outbound'
import { runtime } from './runtime'

/** After a failure of our own nobody knows whether a DSN may go out: the message is tried again after so many seconds. */
const AFTER_FAILURE = 600

/** Core's words where a message could not be put back into the queue: then no DSN of it waits there either. */
const NOT_PUT_BACK = /Error re-queueing email/

/** So many DSNs over the limit may wait in a worker: whoever causes them does not fill the queue. */
const MOST_WAITING = 1000

/** When the DSNs that wait are tried again, unix ms. */
let waiting: number[] = []

/** Never rejects: Haraka takes a hook that throws as one that lets the DSN go out. */
export async function bounce(this: Plugin, next: Next, mail: QueuedMail, error: Error): Promise<void> {
  const delay = await judge(this, mail, error).catch((failure: unknown) => {
    mail.logerror(this, 'judging a DSN failed:', failure)
    return NOT_PUT_BACK.test(error.message) ? 0 : AFTER_FAILURE
  })
  if (delay === undefined) {
    if (!NOT_PUT_BACK.test(error.message)) keepUntilQueued(this, mail)
    return next(CONT)
  }
  if (delay > 0) mail.refcount++
  // Core discards a message that gets no DSN; one that is tried again is held once more.
  next(OK)
  if (delay > 0) await mail.deferred_respond(CONT, '', { delay, err: 'its DSN has to wait' })
}

/**
 * Core removes a message whose DSN could not be written, so that nobody would be told: it is put back instead.
 */
function keepUntilQueued(plugin: Plugin, mail: QueuedMail): void {
  const putBack = (reason: unknown) => {
    mail.logerror(plugin, 'a DSN could not be queued, its message is tried again:', reason)
    void mail.deferred_respond(CONT, '', { delay: AFTER_FAILURE, err: 'its DSN could not be queued' })
  }
  const make = mail.populate_bounce_message
  mail.populate_bounce_message = (from, to, reason, _done) => {
    mail.populate_bounce_message = make
    make.call(mail, from, to, reason, (failure, lines) => {
      if (failure) return putBack(failure)
      const queued = (code: number, why?: unknown) => (code === OK ? mail.discard() : putBack(why))
      const outbound = plugin.haraka_require('outbound') as Outbound
      outbound.send_email(from, to, lines.join(''), queued, { origin: mail })
    })
  }
}

/** Resolves to undefined where the DSN goes out, to 0 where none does, else to the seconds after which it is tried again. */
async function judge(plugin: Plugin, mail: QueuedMail, error: Error): Promise<number | undefined> {
  const config = runtime.domains.value
  const memory = memoryOf(mail)
  const { user, host } = plain(mail.todo.mail_from)
  const domain = domainOf(host ?? '') ?? host ?? ''
  await lookUp([domain])
  const found = config.domains.find(domain)
  if (found === CANNOT_TELL) throw new Error(`whether ${clean(domain, 100)} is ours cannot be told now`)
  const recipient: DsnRecipient = !user ? 'null' : found ? 'ours' : 'foreign'
  const refused = mayBounce(config, recipient, memory)
  if (refused) {
    recordQueued(plugin, mail, refused, memory?.ip)
    return 0
  }
  const limited = recipient === 'foreign' && (await overTheLimit(domain, error))
  if (limited) {
    recordQueued(plugin, mail, limited.decision, memory?.ip)
    return limited.delay
  }
  completeDsn(mail, error)
  return undefined
}

/** Counts a DSN to this domain. Resolves to undefined where there is room for it. */
async function overTheLimit(domain: string, error: Error) {
  const answer = await services.limiter?.check([dsnCharge(domain)])
  if (!answer || answer.allowed) return undefined
  const now = Date.now()
  waiting = waiting.filter((until) => until > now)
  const { decision, delay } = overLimit(runtime.domains.value, domain, {
    retryAfter: answer.refusals[0]?.retryAfter ?? 0,
    canWait: waiting.length < MOST_WAITING && !NOT_PUT_BACK.test(error.message),
    random: Math.random(),
  })
  if (delay > 0) waiting.push(now + delay * 1000)
  return { decision, delay }
}
