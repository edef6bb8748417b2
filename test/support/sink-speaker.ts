// One connection to a sink: its side of the dialogue.
import type { Socket } from 'node:net'
import { createSecureContext, TLSSocket } from 'node:tls'
import type { Response, Sink, SinkOptions, SinkSession, Stage } from './sink-types'

export class Speaker {
  #session: SinkSession
  #buffer: Buffer = Buffer.alloc(0)
  #message: Buffer[] | undefined
  #bytes = 0
  /** The last octets of the message, in which its end may begin. */
  #tail: Buffer = Buffer.alloc(0)
  #login: ((line: string) => Promise<void>) | undefined
  #work: Promise<void> = Promise.resolve()
  #silent = false
  #mailSeen = false

  constructor(
    private socket: Socket,
    private sink: Sink,
    private options: SinkOptions,
  ) {
    const tls = socket instanceof TLSSocket
    this.#session = { number: sink.connections, socket, tls, params: '', to: [], pending: 0 }
  }

  start() {
    this.#listen()
    this.#work = this.#answer('greeting', '', `220 ${this.options.name ?? 'sink.example'} ready`).then(
      () => {},
    )
  }

  #listen() {
    const { socket } = this
    socket.on('data', (chunk) => {
      this.#work = this.#work
        .then(() => {
          if (this.socket !== socket) return
          this.#buffer = Buffer.concat([this.#buffer, chunk])
          return this.#read()
        })
        .catch(() => void this.socket.destroy())
      // One piece at a time: who respond()s slowly reads slowly.
      socket.pause()
      void this.#work.finally(() => void socket.resume())
    })
  }

  /** Sends the response, or the usual one, and returns its code; nothing when there is none. */
  async #answer(stage: Stage, argument: string, usual: string | string[]): Promise<string | undefined> {
    return this.#send((await this.options.respond?.(stage, argument, this.#session)) ?? usual)
  }

  #send(response: Exclude<Response, undefined>): string | undefined {
    if (response === 'drop') this.socket.destroy()
    if (response === 'hang') this.#silent = true
    if (response === 'drop' || response === 'hang') return undefined
    if (Buffer.isBuffer(response)) {
      this.socket.write(response)
      return undefined
    }
    const lines = typeof response === 'string' ? [response] : response
    if (!this.socket.destroyed) this.socket.write(lines.map((line) => `${line}\r\n`).join(''))
    return lines.at(-1)?.slice(0, 3)
  }

  async #read(): Promise<void> {
    while (!this.#silent && !this.socket.destroyed) {
      if (this.#message) {
        if (!(await this.#readMessage())) return
        continue
      }
      const end = this.#buffer.indexOf('\r\n')
      if (end < 0) return
      const line = this.#buffer.subarray(0, end).toString()
      this.#buffer = Buffer.from(this.#buffer.subarray(end + 2))
      this.#session.pending = this.#buffer.length
      if (this.#login) await this.#login(line)
      else await this.#command(line)
    }
  }

  async #command(line: string): Promise<void> {
    const { sink, options } = this
    const session = this.#session
    sink.lines.push(line)
    const [, verb = '', rest = ''] = /^(\S+) ?(.*)$/.exec(line) ?? []
    const address = /^(?:FROM|TO):<(.*?)>(?: (.*))?$/i.exec(rest)
    switch (verb.toUpperCase()) {
      case 'EHLO':
      case 'LHLO':
      case 'HELO':
        if ((verb.toUpperCase() === 'LHLO') !== Boolean(options.lmtp))
          return void this.#send('500 5.5.1 Wrong greeting')
        await this.#answer('ehlo', line, this.#capabilities())
        return
      case 'STARTTLS':
        if ((await this.#answer('starttls', rest, '220 2.0.0 Go ahead')) === '220') this.#upgrade()
        return
      case 'AUTH':
        return this.#auth(rest)
      case 'MAIL':
        if (this.#mailSeen) return void this.#send('503 5.5.1 Nested MAIL')
        if ((await this.#answer('mail', rest, '250 2.1.0 Sender ok')) !== '250') return
        this.#mailSeen = true
        Object.assign(session, { from: address?.[1] ?? rest, params: address?.[2] ?? '', to: [] })
        return
      case 'RCPT':
        sink.rcpts.push(address?.[1] ?? rest)
        if (!this.#mailSeen) return void this.#send('503 5.5.1 MAIL first')
        if ((await this.#answer('rcpt', rest, '250 2.1.5 Recipient ok'))?.startsWith('25')) {
          session.to.push(address?.[1] ?? rest)
        }
        return
      case 'DATA':
        if (!session.to.length) return void this.#send('503 5.5.1 RCPT first')
        if ((await this.#answer('data', rest, '354 Go ahead')) === '354') {
          this.#message = []
          this.#bytes = 0
          this.#tail = Buffer.from('\r\n')
        }
        return
      case 'RSET':
        if ((await this.#answer('rset', rest, '250 2.0.0 Reset')) === '250') this.#reset()
        return
      case 'QUIT':
        await this.#answer('quit', rest, '221 2.0.0 Bye')
        this.socket.end()
        return
      default:
        this.#send('500 5.5.2 Unknown command')
    }
  }

  #capabilities(): string[] {
    const { options } = this
    const { methods = ['PLAIN', 'LOGIN'] } = options
    const offers = [
      options.name ?? 'sink.example',
      ...(options.extensions ?? ['PIPELINING', 'SIZE', '8BITMIME', 'SMTPUTF8', 'ENHANCEDSTATUSCODES']),
      ...(options.tls && !this.#session.tls ? ['STARTTLS'] : []),
      ...(options.users && methods.length ? [`AUTH ${methods.join(' ')}`] : []),
    ]
    return offers.map((offer, index) => `250${index === offers.length - 1 ? ' ' : '-'}${offer}`)
  }

  #upgrade() {
    const { tls } = this.options
    if (!tls) return
    this.socket.removeAllListeners('data')
    this.#buffer = Buffer.alloc(0)
    const secure = new TLSSocket(this.socket, { isServer: true, secureContext: createSecureContext(tls) })
    secure.on('error', () => this.socket.destroy())
    this.socket = secure
    Object.assign(this.#session, { tls: true, socket: secure })
    this.#listen()
    secure.resume()
  }

  async #auth(argument: string): Promise<void> {
    const [method = '', initial] = argument.split(' ')
    const decode = (text: string) => Buffer.from(text, 'base64').toString()
    const next = () =>
      new Promise<string>((resolve) => {
        this.#login = async (line) => {
          this.#login = undefined
          resolve(line)
        }
      })
    const check = async (user: string, password: string) => {
      const fine = this.options.users?.[user] === password
      const usual = fine ? '235 2.7.0 Welcome' : '535 5.7.8 No'
      if ((await this.#answer('auth', argument, usual)) === '235') this.#session.user = user
    }
    if (method === 'PLAIN') {
      const [, user = '', password = ''] = decode(initial ?? '').split('\0')
      return check(user, password)
    }
    this.#send('334 VXNlcm5hbWU6')
    void next()
      .then((user) => {
        this.#send('334 UGFzc3dvcmQ6')
        return next().then((password) => check(decode(user), decode(password)))
      })
      .catch(() => void this.socket.destroy())
  }

  /** True when the message is complete. */
  async #readMessage(): Promise<boolean> {
    const pieces = this.#message ?? []
    const seen = Buffer.concat([this.#tail, this.#buffer])
    const end = seen.indexOf('\r\n.\r\n')
    const taken = end < 0 ? this.#buffer : this.#buffer.subarray(0, end + 5 - this.#tail.length)
    this.#buffer = Buffer.from(this.#buffer.subarray(taken.length))
    this.#tail = seen.subarray(-4)
    pieces.push(taken)
    this.#bytes += taken.length
    if (!taken.length) return false
    const broken = this.options.onData?.(this.#bytes, this.#session)
    if (broken !== undefined) this.#send(broken)
    await this.options.pace?.()
    if (end < 0) return false
    this.#message = undefined
    await this.#finish(Buffer.concat(pieces).subarray(0, -3))
    return true
  }

  async #finish(stuffed: Buffer): Promise<void> {
    const session = this.#session
    const { from = '', to, params, tls, user } = session
    const data = Buffer.from(stuffed.toString('latin1').replace(/(^|\r\n)\.\./g, '$1.'), 'latin1')
    const usual = this.options.lmtp ? to.map(() => '250 2.0.0 Delivered') : ['250 2.0.0 Queued']
    const response = (await this.options.respond?.('dot', '', session)) ?? usual
    if (response === 'drop' || response === 'hang' || Buffer.isBuffer(response))
      return void this.#send(response)
    const lines = typeof response === 'string' ? [response] : response
    const accepted = this.options.lmtp ? to.filter((_, index) => lines[index]?.startsWith('2')) : to
    if (lines[0]?.startsWith('2') || accepted.length) {
      const message = { from, to: this.options.lmtp ? accepted : [...to], params, data, tls }
      if (!this.options.lmtp && !lines[0]?.startsWith('2')) return void this.#send(lines)
      this.sink.messages.push(user === undefined ? message : { ...message, user })
    }
    this.#reset()
    this.#send(lines)
  }

  #reset() {
    this.#mailSeen = false
    Object.assign(this.#session, { params: '', to: [] })
  }
}
