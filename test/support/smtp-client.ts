// A raw SMTP client: says what it is told, from the loopback address it is told, and gives back each reply.
import { connect as connectTcp, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { PATIENCE } from './patience'

export interface Reply {
  /** The basic code; 0 when the connection was closed instead. */
  code: number
  /** The enhanced status code, '' if there is none. */
  status: string
  /** The lines without their codes, joined by a line feed. */
  text: string
  lines: string[]
}

export interface ClientOptions {
  port: number
  host?: string
  /** The address the connection comes from: all of 127.0.0.0/8 works. */
  from?: string
  /** TLS from the first byte (465). */
  implicitTls?: boolean
  /** Sent before the greeting is awaited, e.g. a PROXY line. */
  first?: string
}

export interface Envelope {
  /** What stands between the angle brackets. */
  from: string
  to: string[]
  data?: string | Buffer
  /** After MAIL FROM:<…>, e.g. `SIZE=1000`. */
  parameters?: string
}

export interface Delivery {
  mail: Reply
  rcpt: Reply[]
  /** The answer to DATA; missing when no recipient was accepted. */
  data?: Reply
  /** The answer to the final dot. */
  dot?: Reply
}

const closedReply: Reply = { code: 0, status: '', text: 'connection closed', lines: [] }

function parse(lines: string[]): Reply {
  const last = lines.at(-1) ?? ''
  const status = /^\d{3}[ -]([245]\.\d{1,3}\.\d{1,3})(?: |$)/.exec(last)?.[1] ?? ''
  return { code: Number(last.slice(0, 3)), status, text: lines.map((l) => l.slice(4)).join('\n'), lines }
}

const base64 = (text: string) => Buffer.from(text).toString('base64')

/** The message as it goes over the wire after DATA: dots doubled, and the final one (RFC 5321 4.5.2). */
export function stuffed(data: string | Buffer): Buffer {
  const text = Buffer.from(data).toString('latin1').replace(/^\./gm, '..')
  return Buffer.from(`${text}${text.endsWith('\r\n') ? '' : '\r\n'}.\r\n`, 'latin1')
}

export class SmtpClient {
  greeting: Reply = closedReply
  #socket: Socket
  #buffer = ''
  #lines: string[] = []
  #replies: Reply[] = []
  #waiting: ((reply: Reply) => void)[] = []
  #closed = false

  private constructor(socket: Socket) {
    this.#socket = socket
    this.#listen(socket)
  }

  /** Connects and waits for the greeting, which may be a refusal. Rejects only when nobody listens. */
  static async connect(options: ClientOptions): Promise<SmtpClient> {
    const { port, host = '127.0.0.1', from = '127.0.0.1' } = options
    const where = { port, host, localAddress: from, noDelay: true }
    const socket = options.implicitTls
      ? connectTls({ ...where, rejectUnauthorized: false })
      : connectTcp(where)
    const client = new SmtpClient(socket)
    await new Promise((resolve, reject) => {
      socket.once(options.implicitTls ? 'secureConnect' : 'connect', resolve)
      socket.once('error', reject)
    })
    if (options.first) client.raw(options.first)
    client.greeting = await client.reply()
    return client
  }

  get closed(): boolean {
    return this.#closed
  }

  raw(bytes: string | Buffer) {
    if (!this.#closed) this.#socket.write(bytes)
  }

  /** The next reply that nobody has taken yet. */
  reply(): Promise<Reply> {
    const ready = this.#replies.shift()
    if (ready) return Promise.resolve(ready)
    if (this.#closed) return Promise.resolve(closedReply)
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no reply in ${PATIENCE} ms`)), PATIENCE)
      this.#waiting.push((reply) => {
        clearTimeout(timer)
        resolve(reply)
      })
    })
  }

  command(line: string): Promise<Reply> {
    this.raw(`${line}\r\n`)
    return this.reply()
  }

  /** Sends all lines in one write (RFC 2920) and gives back a reply for each. */
  async pipeline(lines: string[]): Promise<Reply[]> {
    this.raw(lines.map((line) => `${line}\r\n`).join(''))
    const replies: Reply[] = []
    for (const _ of lines) replies.push(await this.reply())
    return replies
  }

  ehlo(name = 'client.example'): Promise<Reply> {
    return this.command(`EHLO ${name}`)
  }

  /** STARTTLS, the handshake without a look at the certificate, and EHLO again. */
  async startTls(): Promise<Reply> {
    const reply = await this.command('STARTTLS')
    if (reply.code !== 220) return reply
    this.#socket.removeAllListeners()
    const secure = connectTls({ socket: this.#socket, rejectUnauthorized: false })
    await new Promise((resolve, reject) => secure.once('secureConnect', resolve).once('error', reject))
    this.#socket = secure
    this.#listen(secure)
    return this.ehlo()
  }

  authPlain(user: string, password: string): Promise<Reply> {
    return this.command(`AUTH PLAIN ${base64(`\0${user}\0${password}`)}`)
  }

  async authLogin(user: string, password: string): Promise<Reply> {
    for (const line of ['AUTH LOGIN', base64(user)]) {
      const reply = await this.command(line)
      if (reply.code !== 334) return reply
    }
    return this.command(base64(password))
  }

  /** DATA and, if that is answered by 354, the message. */
  async data(message: string | Buffer): Promise<{ data: Reply; dot?: Reply }> {
    const data = await this.command('DATA')
    if (data.code !== 354) return { data }
    this.raw(stuffed(message))
    return { data, dot: await this.reply() }
  }

  /** One message; what was refused is left out, and RSET ends a transaction that has no recipient. */
  async deliver({
    from,
    to,
    data = 'Subject: test\r\n\r\ntest\r\n',
    parameters,
  }: Envelope): Promise<Delivery> {
    const mail = await this.command(`MAIL FROM:<${from}>${parameters ? ` ${parameters}` : ''}`)
    if (mail.code !== 250) return { mail, rcpt: [] }
    const rcpt: Reply[] = []
    for (const recipient of to) rcpt.push(await this.command(`RCPT TO:<${recipient}>`))
    if (!rcpt.some(({ code }) => code === 250)) {
      await this.command('RSET')
      return { mail, rcpt }
    }
    return { mail, rcpt, ...(await this.data(data)) }
  }

  async quit() {
    if (!this.#closed) await this.command('QUIT')
    this.destroy()
  }

  destroy() {
    this.#socket.destroy()
    this.#close()
  }

  #listen(socket: Socket) {
    socket.on('data', (part) => this.#take(part.toString('latin1')))
    socket.on('close', () => this.#close())
    socket.on('end', () => this.#close())
    socket.on('error', () => this.#close())
  }

  #take(part: string) {
    this.#buffer += part
    for (let end = this.#buffer.indexOf('\n'); end >= 0; end = this.#buffer.indexOf('\n')) {
      const line = this.#buffer.slice(0, end).replace(/\r$/, '')
      this.#buffer = this.#buffer.slice(end + 1)
      this.#lines.push(line)
      if (line[3] === '-') continue
      this.#give(parse(this.#lines))
      this.#lines = []
    }
  }

  #give(reply: Reply) {
    const waiting = this.#waiting.shift()
    if (waiting) return waiting(reply)
    this.#replies.push(reply)
  }

  #close() {
    this.#closed = true
    for (const waiting of this.#waiting.splice(0)) waiting(closedReply)
  }
}
