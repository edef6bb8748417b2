// Puts battery cases to a Haraka, and compares the answers and what the next hops got with what is expected.
import type { Outcome } from './battery'
import type { Haraka } from './haraka'
import type { Sink } from './sink'
import { type Reply, type SmtpClient, stuffed } from './smtp-client'
import { connectAs, type Kind, type World } from './world'

export interface Case {
  /** Paths as they stand after MAIL FROM: and RCPT TO:. */
  from: string
  to: string
  expected: Outcome
  /** Whether an open outcome may reach the internet. */
  mayRelay: boolean
  /** How the recipient must read at the next hop; the path's address unless given. */
  arrives?: string
}

/** One command at a time, or MAIL, RCPT and DATA in one write (RFC 2920). */
export type Mode = 'single' | 'pipelined'

interface Result extends Case {
  id: string
  /** The reply that settled it: the first refusal, or the answer to the final dot. */
  reply: Reply
}

let cases = 0
const message = (id: string) => stuffed(`Subject: battery\r\nX-Case: ${id}\r\n\r\nbody of ${id}\r\n`)
const refusal = (replies: Reply[]) => replies.find(({ code }) => code !== 250 && code !== 354)

async function finish(client: SmtpClient, id: string): Promise<Reply> {
  client.raw(message(id))
  return client.reply()
}

async function single(client: SmtpClient, { from, to }: Case, id: string): Promise<Reply> {
  const mail = await client.command(`MAIL FROM:${from}`)
  if (mail.code !== 250) return mail
  const rcpt = await client.command(`RCPT TO:${to}`)
  if (rcpt.code === 250) {
    const data = await client.command('DATA')
    if (data.code === 354) return finish(client, id)
  }
  await client.command('RSET')
  return rcpt
}

async function pipelined(client: SmtpClient, { from, to }: Case, id: string): Promise<Reply> {
  const replies = await client.pipeline([`MAIL FROM:${from}`, `RCPT TO:${to}`, 'DATA'])
  if (replies[2]?.code === 354) {
    const dot = await finish(client, id)
    return refusal(replies) ?? dot
  }
  await client.command('RSET')
  return refusal(replies) ?? replies[2]!
}

async function converse(haraka: Haraka, kind: Kind, mode: Mode, list: Case[]) {
  const results: Result[] = []
  let client = await connectAs(kind, haraka.port)
  for (const one of list) {
    if (client.closed) client = await connectAs(kind, haraka.port)
    const id = `case-${++cases}`
    results.push({ ...one, id, reply: await (mode === 'single' ? single : pipelined)(client, one, id) })
  }
  await client.quit()
  return results
}

/** What arrived with this id, as `next hop: recipient`. */
function arrivals(world: World, id: string): string[] {
  const at = (name: string, sink: Sink) =>
    sink.messages
      .filter(({ data }) => data.includes(`X-Case: ${id}\r\n`))
      .flatMap(({ to }) => to.map((recipient) => `${name}: ${plain(recipient)}`))
  return [...at('smtp', world.smtp), ...at('lmtp', world.lmtp), ...at('internet', world.internet)]
}

const plain = (path: string) => path.replace(/^<|>$/g, '').toLowerCase()

/** What is wrong with this result; undefined if nothing is. */
function fault(world: World, { id, expected, mayRelay, reply, to, arrives }: Result): string | undefined {
  const arrived = arrivals(world, id)
  if (expected === 'open') {
    const leaked = !mayRelay && arrived.some((a) => a.startsWith('internet'))
    return leaked ? `relayed: ${arrived.join(', ')}` : undefined
  }
  if (expected === 'denied' || expected === 'malformed') {
    if (arrived.length) return `arrived at ${arrived.join(', ')}`
    if (expected === 'malformed') return reply.code >= 500 ? undefined : 'should be a 5xx'
    if (reply.code !== 550 || reply.status !== '5.7.1') return 'should be 550 5.7.1'
    return /\(id [0-9A-F]{8}\.\d+\)$/.test(reply.text) ? undefined : 'has no id'
  }
  if (reply.code !== 250) return 'should be accepted'
  const wanted = `${expected}: ${arrives ?? plain(to)}`
  return arrived.join() === wanted
    ? undefined
    : `should arrive at ${wanted}, not at ${arrived.join(', ') || 'none'}`
}

/** Side by side, because Haraka's pipelined replies wait for delayed acknowledgements (40 ms a group). */
const sessions = 8

/**
 * Runs the cases in a few sessions at once (a new one where Haraka closes one) and returns a line for each that did
 * not end as expected: who, what, the reply, and what is wrong with it.
 */
export async function runBattery(world: World, haraka: Haraka, kind: Kind, mode: Mode, list: Case[]) {
  const shares = Array.from({ length: sessions }, (_, n) => list.filter((_, i) => i % sessions === n))
  const results = await Promise.all(shares.map((share) => converse(haraka, kind, mode, share)))
  await haraka.queueEmpty()
  return results.flat().flatMap((result) => {
    const wrong = fault(world, result)
    const { from, to, reply } = result
    return wrong ? [`${kind}, ${mode}: ${from} to ${to}: "${reply.lines.join(' ')}" ${wrong}`] : []
  })
}
