// The message of one transaction on one session: DATA, the body, and the answers after the final dot.
import { Body } from './body'
import { HostFailure, isAccepted, noAnswer, type Outcome, type RawReply, type Reply, toReply } from './reply'
import { stepTime } from './route'
import type { Session } from './session'

/** Writes the message, unstuffed and without a final dot, to `body` and ends it; stops when `body` closes. */
export type Source = (body: Body) => void | Promise<void>

/** The message could not be read: our own failure, no host's. */
export class SourceFailure extends Error {}

/** Sends DATA. The answer if the next hop refuses, nothing when the message may follow. Rejects with HostFailure. */
export async function askForData(session: Session, ms: number): Promise<Reply | undefined> {
  const reply = await session.ask('DATA', ms, 354)
  if (reply.code === 354) return undefined
  if (reply.code < 400) throw new HostFailure(`answered DATA with ${reply.code}`)
  return toReply(reply, session.host)
}

/** How long a hand-over may take. */
export interface MessageTimes {
  /** For each piece of the message, ms. */
  timeout: number
  /** For each answer after the final dot, ms. */
  timeoutFinal: number
  /** When all of it must be over, on the clock of `now()`. */
  deadline: number
}

/**
 * Sends the message and returns the answer of each recipient that this session accepted. Rejects, with HostFailure or
 * SourceFailure, only while the final dot is unwritten, when nothing can have been delivered; after it, what is not
 * answered is `noAnswer`, 4.4.2.
 */
export async function sendMessage(session: Session, source: Source, times: MessageTimes): Promise<Outcome[]> {
  const { wire, host, peer } = session
  const recipients = session.transaction?.accepted ?? []
  const isLmtp = session.hop.protocol === 'lmtp'
  // RFC 2033 4.2: LMTP answers once for each recipient. Awaited from the start, for it may answer early.
  const answers = recipients.slice(0, isLmtp ? undefined : 1).map(() => wire.reply())
  const settled = Promise.allSettled(answers)
  const early = await writeBody(session, source, answers[0], times)
  if (early) {
    // An answer of one recipient is not the others'.
    if (recipients.length > 1 && isLmtp)
      throw new HostFailure(`answered ${early.code} before the end of the message`)
    return recipients.map((recipient) => ({ recipient, reply: toReply(early, host), peer }))
  }
  const { timeoutFinal, deadline } = times
  const late = () => wire.fail(new HostFailure(`gave no answer within ${timeoutFinal} ms of the final dot`))
  let left = answers.length
  let clock = setTimeout(late, stepTime(timeoutFinal, deadline))
  const next = () => {
    clearTimeout(clock)
    if (--left) clock = setTimeout(late, stepTime(timeoutFinal, deadline))
  }
  for (const answer of answers) answer.then(next, () => clearTimeout(clock))
  const replies = (await settled).map((answer) => finalReply(answer, session))
  session.transaction = undefined
  // A message that was taken ends its transaction (RFC 5321 4.1.1.4); after anything else RSET comes first.
  session.needsReset = !replies.every(isAccepted)
  if (replies.some(({ code }) => code === 421)) session.destroy('closing')
  return recipients.map((recipient, index) => {
    const reply = replies[index] ?? replies[0] ?? noAnswer('No answer', host, '4.4.2')
    return { recipient, reply, peer }
  })
}

function finalReply(answer: PromiseSettledResult<RawReply>, session: Session): Reply {
  const { wire, host } = session
  if (answer.status === 'rejected')
    return noAnswer(`The next hop ${wire.failure?.message} after the message was sent`, host, '4.4.2')
  const { code, lines } = answer.value
  if (code >= 400 || code < 300) return toReply(answer.value, host)
  // Neither yes nor no: it may have been delivered, so the client comes again rather than lose it.
  session.destroy(`answered the message with ${code}`)
  const words = [code, ...lines].join(' ').trim()
  const text = `The next hop answered the message with ${words}, which is neither yes nor no`
  return { answered: true, code: 451, status: '4.3.0', text, host }
}

/** Nothing when the final dot is on its way, else the reply of a next hop that did not want to hear it all. */
async function writeBody(
  session: Session,
  source: Source,
  answer: Promise<RawReply> | undefined,
  { timeout, deadline }: MessageTimes,
): Promise<RawReply | undefined> {
  const { wire } = session
  let writing = false
  let unsent = false
  const slow = () => {
    if (writing) wire.fail(new HostFailure(`took no data for ${timeout} ms`))
    else giveUp(`nothing came for ${timeout} ms`)
  }
  let stuck: NodeJS.Timeout | undefined
  const restart = () => {
    clearTimeout(stuck)
    if (!ended) stuck = setTimeout(slow, stepTime(timeout, deadline))
  }
  let ended = false
  restart()
  const body = new Body((data, done) => {
    if (wire.failure) {
      unsent = true
      return done(wire.failure)
    }
    writing = true
    wire.write(data, (error) => {
      writing = false
      restart()
      done(error)
    })
  })
  const closed = new Promise<void>((resolve) => body.once('close', resolve))
  let unreadable: SourceFailure | undefined
  const giveUp = (why: unknown) => {
    unreadable = new SourceFailure(`The message cannot be read: ${why instanceof Error ? why.message : why}`)
    body.destroy()
  }
  const finished = new Promise<void>((resolve) => {
    body.once('finish', resolve)
    body.once('close', resolve)
    body.on('error', () => {})
    Promise.resolve()
      .then(() => source(body))
      .catch(giveUp)
  })
  await Promise.race([finished, answer?.catch(() => {})])
  ended = true
  clearTimeout(stuck)
  if (body.dotted && !unsent) return undefined

  body.destroy()
  // Its reader lets go of the message when the body closes, and may then begin again with the next host.
  await closed
  const { failure } = wire
  session.destroy('the message was broken off')
  const early = await answer?.catch(() => undefined)
  if (early && early.code >= 400 && early.code !== 421) return early
  if (early) throw new HostFailure(`answered ${early.code} before the end of the message`)
  throw failure ?? unreadable ?? new SourceFailure('The message ended before its end')
}
