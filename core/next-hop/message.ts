// The message of one transaction on one session: DATA, the body, and the answers after the final dot.
import { Body } from './body'
import { HostFailure, noAnswer, type Outcome, type Reply, type Said, toReply } from './reply'
import type { Session } from './session'

/** Writes the message, unstuffed and without a final dot, to `body` and ends it; stops when `signal` says so. */
export type Source = (body: Body, signal: AbortSignal) => void | Promise<void>

/** The message could not be read: our own failure, no host's. */
export class SourceFailure extends Error {}

/** Says DATA. The answer if the next hop refuses, nothing when the message may follow. Rejects with HostFailure. */
export async function askForData(session: Session, ms: number): Promise<Reply | undefined> {
  const said = await session.ask('DATA', ms, 354)
  if (said.code === 354) return undefined
  if (said.code < 400) throw new HostFailure(`answered DATA with ${said.code}`)
  return toReply(said, session.host)
}

/**
 * Sends the message and returns each recipient's answer. Rejects, with HostFailure or SourceFailure, only while the
 * final dot is unwritten, when nothing can have been delivered; after it, what is not answered is `noAnswer`, 4.4.2.
 */
export async function sendMessage(
  session: Session,
  recipients: string[],
  source: Source,
  { timeout, timeoutFinal }: { timeout: number; timeoutFinal: number },
): Promise<Outcome[]> {
  const { wire, host } = session
  // RFC 2033 4.2: LMTP answers once for each recipient. Awaited from the start, for it may answer early.
  const answers = (session.hop.protocol === 'lmtp' ? recipients : recipients.slice(0, 1)).map(() =>
    wire.reply(),
  )
  const settled = Promise.allSettled(answers)
  const written = await writeBody(session, source, answers[0], timeout)
  if (written !== true) return recipients.map((recipient) => ({ recipient, reply: toReply(written, host) }))

  const late = () => wire.fail(new HostFailure(`gave no answer within ${timeoutFinal} ms of the final dot`))
  const clock = setTimeout(late, timeoutFinal)
  for (const answer of answers) answer.then(() => clock.refresh()).catch(() => {})
  const replies = (await settled).map((answer) => {
    if (answer.status === 'fulfilled' && answer.value.code >= 200 && answer.value.code !== 354) {
      return toReply(answer.value, host)
    }
    const why = answer.status === 'rejected' ? wire.failure?.message : 'said something else'
    return noAnswer(`The next hop ${why} after the message was sent`, host, '4.4.2')
  })
  clearTimeout(clock)
  session.inTransaction = false
  if (replies.some(({ code }) => code === 421)) session.destroy('closing')
  return recipients.map((recipient, index) => {
    const reply = replies[index] ?? replies[0] ?? noAnswer('No answer', host, '4.4.2')
    return { recipient, reply }
  })
}

/** True when the final dot is on its way; the reply of a next hop that did not want to hear it all. */
async function writeBody(
  session: Session,
  source: Source,
  answer: Promise<Said> | undefined,
  timeout: number,
): Promise<true | Said> {
  const { wire } = session
  const stop = new AbortController()
  let writing = false
  const stuck = setTimeout(() => {
    if (writing) wire.fail(new HostFailure(`took no data for ${timeout} ms`))
    else giveUp(`nothing came for ${timeout} ms`)
  }, timeout)
  const body = new Body((data, done) => {
    writing = true
    wire.write(data, (error) => {
      writing = false
      stuck.refresh()
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
      .then(() => source(body, stop.signal))
      .catch(giveUp)
  })
  await Promise.race([finished, answer?.catch(() => {})])
  clearTimeout(stuck)
  if (body.dotted) return true

  stop.abort()
  body.destroy()
  // Its reader lets go of the message when the body closes, and may then begin again with the next host.
  await closed
  const { failure } = wire
  session.destroy('the message was broken off')
  const early = await answer?.catch(() => undefined)
  if (early && early.code >= 400 && early.code !== 421) return early
  if (early) throw new HostFailure(`said ${early.code} before the end of the message`)
  throw failure ?? unreadable ?? new SourceFailure('The message ended before its end')
}
