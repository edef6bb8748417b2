// What a next hop says: replies read from bytes (RFC 5321 4.2), within bounds, and the answer the caller gets.

/** A reply as it came: the code and the text of each line. */
export interface Said {
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
  /** Who said it, as `host:port`; empty when no host was reached. */
  host: string
}

/** What one recipient got. */
export interface Outcome {
  recipient: string
  reply: Reply
}

/** A host that cannot be used: it is dead, hangs, speaks garbage, refuses to talk. */
export class HostFailure extends Error {
  /** `rests`: the host is at fault, and is tried last for a while. */
  constructor(
    message: string,
    readonly rests = true,
  ) {
    super(message)
  }
}

export const isAccepted = ({ code }: { code: number }): boolean => code >= 200 && code < 300

/** The answer of a host. */
export function toReply({ code, lines }: Said, host: string): Reply {
  const status = new RegExp(`^${Math.floor(code / 100)}\\.\\d{1,3}\\.\\d{1,3}(?= |$)`).exec(
    lines[0] ?? '',
  )?.[0]
  const texts = lines.map((line) =>
    (status && line.startsWith(status) ? line.slice(status.length) : line).trim(),
  )
  return { answered: true, code, ...(status && { status }), text: texts.filter(Boolean).join(' '), host }
}

/** What is said where no host answered: come back later. 4.4.1: no answer from host; 4.4.2: bad connection (RFC 3463). */
export const noAnswer = (text: string, host = '', status = '4.4.1'): Reply => ({
  answered: false,
  code: 451,
  status,
  text,
  host,
})

// RFC 5321 4.5.3.1.5 allows 512 octets a line. Nobody's EHLO has as many lines.
const MAX_LINE = 4096
const MAX_LINES = 200

/** Makes replies of bytes. Holds one line and one reply at most. */
export class ReplyParser {
  #rest: Buffer = Buffer.alloc(0)
  #lines: string[] = []
  #code = 0

  /** True in the middle of a reply. */
  get partial(): boolean {
    return this.#rest.length > 0 || this.#lines.length > 0
  }

  /** The replies that these bytes complete. Throws HostFailure when they are not SMTP replies. */
  push(chunk: Buffer): Said[] {
    const bytes = this.#rest.length ? Buffer.concat([this.#rest, chunk]) : chunk
    const said: Said[] = []
    let start = 0
    for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, start)) {
      const reply = this.#line(bytes.subarray(start, end))
      if (reply) said.push(reply)
      start = end + 1
    }
    if (bytes.length - start > MAX_LINE) throw new HostFailure('sent an over-long line')
    // A copy, so that a byte of rest does not hold its whole chunk.
    this.#rest = Buffer.from(bytes.subarray(start))
    return said
  }

  #line(bytes: Buffer): Said | undefined {
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
