// Replies of a next hop: read from bytes (RFC 5321 4.2), within bounds, and the answer the caller gets.

/** A reply as it came: the code and the text of each line. */
export interface RawReply {
  code: number
  lines: string[]
}

/** The answer to the caller, in words that can be passed on to the client. */
export interface Reply {
  /** False: no host gave an answer, and this 451 is ours. */
  answered: boolean
  code: number
  /** The enhanced status code (RFC 3463), where the host gave one. */
  status?: string
  text: string
  /** Who gave it, as `host:port`; empty when no host was reached. */
  host: string
  /** It answers MAIL, and so says nothing of the recipient. */
  refusedSender?: true
  /** No host was asked for want of a connection: ours are all in use, or the host takes no more. */
  congested?: Congestion
}

/** Why there is no connection although the host lives: ours are all in use, or it takes no more. */
export type Congestion = 'all in use' | 'no more taken'

/** Who took or refused a message, as the session knows it. */
export interface Peer {
  host: string
  /** The address of the other end; the path of a unix socket. */
  ip: string
  /** 0 for a unix socket. */
  port: number
  protocol: 'SMTP' | 'LMTP'
  /** TLS was on. */
  tls: boolean
  /** A login was accepted. */
  authenticated: boolean
}

/** What one recipient got. `peer` is not there where no message was offered to anybody. */
export interface Outcome {
  recipient: string
  reply: Reply
  peer?: Peer
}

/** A host that cannot be used: it is dead, hangs, talks garbage, refuses service. */
export class HostFailure extends Error {
  /** `backsOff`: the host is at fault, and is tried last for a while. */
  constructor(
    message: string,
    readonly backsOff = true,
  ) {
    super(message)
  }
}

/** No connection was to be had, which is nobody's fault and passes: wait, or come again. */
export class CongestionFailure extends HostFailure {
  constructor(
    message: string,
    readonly congestion: Congestion,
  ) {
    super(message, false)
  }
}

/** Whether a reply, or an answer, is a 2xx. */
export const isAccepted = ({ code }: { code: number }): boolean => code >= 200 && code < 300

/** Whether a reply, or an answer, is a 4xx. */
export const isDeferred = ({ code }: { code: number }): boolean => code >= 400 && code < 500

/** The enhanced status code of a line, by the class of the reply that it stands in (RFC 2034 4). */
const STATUS: Record<number, RegExp> = Object.fromEntries(
  [2, 4, 5].map((digit) => [digit, new RegExp(`^${digit}\\.\\d{1,3}\\.\\d{1,3}(?= |$)`)]),
)

/** The answer of a host, its enhanced status code taken out of the text. */
export function toReply({ code, lines }: RawReply, host: string): Reply {
  const status = STATUS[Math.floor(code / 100)]?.exec(lines[0] ?? '')?.[0]
  const texts = lines.map((line) =>
    (status && line.startsWith(status) ? line.slice(status.length) : line).trim(),
  )
  return { answered: true, code, ...(status && { status }), text: texts.filter(Boolean).join(' '), host }
}

/**
 * The answer of a host to RCPT. 552 was once the code for too many recipients, and is to be taken for 452
 * (RFC 5321 4.5.3.1.10): the client sends those again by itself. One that names another reason, as a full mailbox
 * (5.2.2), stays.
 */
export function toRecipientReply(raw: RawReply, host: string): Reply {
  const reply = toReply(raw, host)
  const tooMany = reply.code === 552 && (reply.status === undefined || reply.status === '5.5.3')
  return tooMany ? { ...reply, code: 452, status: '4.5.3', text: reply.text || 'Too many recipients' } : reply
}

/** The answer where no host gave one: come back later. 4.4.1: no answer from host; 4.4.2: bad connection (RFC 3463). */
export const noAnswer = (text: string, host = '', status = '4.4.1'): Reply => ({
  answered: false,
  code: 451,
  status,
  text,
  host,
})

/** What a failure is to the client. 4.4.5: congestion (RFC 3463 3.5). */
export function failureReply(error: unknown): Reply {
  const text = error instanceof Error ? error.message : String(error)
  if (!(error instanceof CongestionFailure)) return noAnswer(text)
  return { ...noAnswer(text, '', '4.4.5'), congested: error.congestion }
}

// RFC 5321 4.5.3.1.5 allows 512 octets a line. Nobody's EHLO has as many lines.
const MAX_LINE = 4096
const MAX_LINES = 200
const NOTHING = Buffer.alloc(0)

/** Makes replies of bytes. Holds one line and one reply at most. */
export class ReplyParser {
  #rest: Buffer = NOTHING
  #lines: string[] = []
  #code = 0

  /** True in the middle of a reply. */
  get partial(): boolean {
    return this.#rest.length > 0 || this.#lines.length > 0
  }

  /** The replies that these bytes complete. Throws HostFailure when they are not SMTP replies. */
  push(chunk: Buffer): RawReply[] {
    const bytes = this.#rest.length ? Buffer.concat([this.#rest, chunk]) : chunk
    const replies: RawReply[] = []
    let start = 0
    for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, start)) {
      const reply = this.#line(bytes.subarray(start, end))
      if (reply) replies.push(reply)
      start = end + 1
    }
    if (bytes.length - start > MAX_LINE) throw new HostFailure('sent an over-long line')
    // A copy, so that a byte of rest does not hold its whole chunk.
    this.#rest = start === bytes.length ? NOTHING : Buffer.from(bytes.subarray(start))
    return replies
  }

  #line(bytes: Buffer): RawReply | undefined {
    if (bytes.length > MAX_LINE) throw new HostFailure('sent an over-long line')
    const match = /^([2-5]\d\d)(?:([ -])(.*?))?\r?$/s.exec(bytes.toString('utf8'))
    if (!match) throw new HostFailure('sent something that is not an SMTP reply')
    const code = Number(match[1])
    if (this.#lines.length && code !== this.#code) throw new HostFailure('sent a reply with two codes')
    this.#code = code
    this.#lines.push(match[3] ?? '')
    if (match[2] !== '-') return { code, lines: this.#lines.splice(0) }
    if (this.#lines.length >= MAX_LINES) throw new HostFailure('sent an endless reply')
    return undefined
  }
}
