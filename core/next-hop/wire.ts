// A connection that speaks in lines: what is written, which replies are awaited, and what becomes of it when it breaks.
import type { Socket } from 'node:net'
import { type ConnectionOptions, connect as startTls, TLSSocket } from 'node:tls'
import { HostFailure, type RawReply, ReplyParser } from './reply'

/** The handshake failed: a host that need not speak TLS is worth another try in clear. */
export class TlsFailure extends HostFailure {}

/** `ECONNREFUSED` and the like by their names; what TLS and others say in their words. */
export const errorName = (error: NodeJS.ErrnoException): string =>
  (error.syscall === undefined && error.message) || error.code || 'failed'

interface Awaited {
  resolve: (reply: RawReply) => void
  reject: (failure: Error) => void
  timer: NodeJS.Timeout | undefined
}

/**
 * Lines out, replies in, in order: a reply belongs to the oldest line that has none. Whatever leaves that order in
 * doubt (a reply too late, one too many, garbage) breaks the connection, so that no answer ever goes to another question.
 */
export class Wire {
  /** Why it can no longer be used. */
  failure: Error | undefined
  /** Called once, when it breaks. */
  onFailure: (() => void) | undefined
  /** The address of the other end; '' for a unix socket. */
  readonly remoteAddress: string
  #socket: Socket
  #parser = new ReplyParser()
  /** From `#answered` on: those without a reply. LMTP may owe as many as there are recipients. */
  #awaited: Awaited[] = []
  #answered = 0

  constructor(socket: Socket) {
    this.#socket = socket
    this.remoteAddress = socket.remoteAddress?.replace(/^::ffff:/, '') ?? ''
    socket.setNoDelay(true)
    this.#listen(socket)
    if (socket.destroyed) this.fail(new HostFailure('hung up'))
  }

  get encrypted(): boolean {
    return this.#socket instanceof TLSSocket
  }

  /** Sends a line and awaits its reply. Rejects with HostFailure. */
  ask(line: string, ms: number): Promise<RawReply> {
    const reply = this.reply(ms)
    this.write(`${line}\r\n`)
    return reply
  }

  /** Sends several lines at once and awaits a reply to each. Rejects with HostFailure. */
  askAll(lines: string[], ms: number): Promise<RawReply[]> {
    // Replies come in order: one is late only if the last one is.
    const replies = lines.map((_, at) => this.reply(at === lines.length - 1 ? ms : undefined))
    this.write(lines.map((line) => `${line}\r\n`).join(''))
    return Promise.all(replies)
  }

  /** Awaits one more reply, for `ms` or as long as it takes. Rejects with HostFailure. */
  reply(ms?: number): Promise<RawReply> {
    return new Promise((resolve, reject) => {
      if (this.failure) return reject(this.failure)
      const late = () => this.fail(new HostFailure(`gave no answer within ${Math.round(ms ?? 0)} ms`))
      this.#awaited.push({ resolve, reject, timer: ms === undefined ? undefined : setTimeout(late, ms) })
    })
  }

  /** Writes; `done` is called when the bytes have left this process. */
  write(data: string | Buffer, done?: (error?: Error | null) => void) {
    if (this.failure) done?.(this.failure)
    else this.#socket.write(data, done)
  }

  /** Goes on in TLS. What came in clear after the reply to STARTTLS is an attack (CVE-2011-0411), not a reply. */
  async encrypt(options: ConnectionOptions, ms: number) {
    const plain = this.#socket
    if (this.#parser.partial) this.fail(new HostFailure('sent bytes in clear after its answer to STARTTLS'))
    if (this.failure) throw this.failure
    const secure = startTls({ ...options, socket: plain })
    this.#socket = secure
    const ready = this.reply(ms)
    secure.once('secureConnect', () => this.#receive({ code: 220, lines: [] }))
    this.#listen(secure)
    try {
      await ready
    } catch (error) {
      throw new TlsFailure(`TLS failed: ${error instanceof Error ? error.message : error}`)
    }
  }

  /** Breaks it: the socket is destroyed, and who awaits a reply gets the failure. */
  fail(failure: Error) {
    if (this.failure) return
    this.failure = failure
    this.#socket.destroy()
    for (const { reject, timer } of this.#awaited.splice(0).slice(this.#answered)) {
      clearTimeout(timer)
      reject(failure)
    }
    this.onFailure?.()
  }

  /** An unused connection keeps no process alive. */
  setIdle(idle: boolean) {
    if (idle) this.#socket.unref()
    else this.#socket.ref()
  }

  #listen(socket: Socket) {
    socket.on('data', (chunk) => this.#read(chunk))
    socket.on('end', () => this.fail(new HostFailure('hung up')))
    socket.on('close', () => this.fail(new HostFailure('hung up')))
    socket.on('error', (error) => this.fail(new HostFailure(errorName(error))))
  }

  #read(chunk: Buffer) {
    if (this.failure) return
    try {
      for (const reply of this.#parser.push(chunk)) this.#receive(reply)
    } catch (error) {
      this.fail(error instanceof Error ? error : new HostFailure(String(error)))
    }
  }

  #receive(reply: RawReply) {
    if (this.failure) return
    const awaited = this.#awaited[this.#answered++]
    if (this.#answered >= this.#awaited.length) {
      this.#awaited = []
      this.#answered = 0
    }
    if (!awaited)
      return this.fail(new HostFailure(`sent ${reply.code} ${reply.lines.join(' ')} unasked`, false))
    clearTimeout(awaited.timer)
    awaited.resolve(reply)
  }
}
