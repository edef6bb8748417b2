// One connection's dialogue up to where mail can be given: greeting, EHLO, STARTTLS, AUTH.
import { isIP, type Socket } from 'node:net'
import { type NextHop, printHost } from './address'
import { trusting } from './authorities'
import { CongestionFailure, HostFailure, isAccepted, type Peer, type RawReply } from './reply'
import { stepTime, type TlsMode } from './route'
import { Wire } from './wire'

/** How to lead the dialogue on a new connection. */
export interface Dialogue {
  /** Our name in EHLO. */
  name: string
  tls: TlsMode
  /** See Route. */
  tlsForLogin: boolean
  /** Certificate authorities beside Node's, PEM; '' for Node's alone. */
  ca: string
  /** For each step, ms. */
  timeout: number
  /** When all of it must be done, on the clock of `now()`. */
  deadline: number
  signal: AbortSignal
}

/** Whether a password may be sent there in clear: to this machine, where nobody listens. */
export const isHere = ({ path }: NextHop, ip = ''): boolean =>
  path !== undefined || /^(::ffff:)?127\.|^::1$/.test(ip)

/** A transaction that is open on a session: MAIL was accepted. */
export interface OpenTransaction {
  /** Its MAIL had SMTPUTF8. */
  utf8: boolean
  /** The recipients that this session accepted, in that order: LMTP answers for them, one by one (RFC 2033 4.2). */
  accepted: string[]
}

/** A connection on which mail can be given. It owns what belongs to its open transaction. */
export class Session {
  /** What EHLO offered: keyword in upper case, and its parameters. */
  capabilities = new Map<string, string>()
  transaction: OpenTransaction | undefined
  /**
   * MAIL was sent since the last RSET. The next transaction begins with RSET then, whatever became of this one: some
   * servers keep parts of a refused MAIL (Postfix its SIZE), and a reply too many ends here and not with the next client.
   */
  needsReset = false
  /** Transactions whose MAIL was accepted. */
  transactions = 0
  /** Answers to MAIL and RCPT that were no yes. */
  refusals = 0
  /** It comes from the pool and has not answered since. */
  reused = false
  #authenticated = false

  /** `host:port`, for people. */
  readonly host: string

  private constructor(
    readonly hop: NextHop,
    readonly wire: Wire,
  ) {
    this.host = printHost(hop)
  }

  get alive(): boolean {
    return !this.wire.failure
  }

  get peer(): Peer {
    const { hop, wire } = this
    return {
      host: hop.path ?? hop.host,
      ip: hop.path ?? wire.remoteAddress,
      port: hop.port,
      protocol: hop.protocol === 'lmtp' ? 'LMTP' : 'SMTP',
      tls: wire.encrypted,
      authenticated: this.#authenticated,
    }
  }

  offers(capability: string): boolean {
    return this.capabilities.has(capability)
  }

  /**
   * Leads the dialogue on a connected socket. Rejects with HostFailure, with TlsFailure where the handshake failed, and
   * with CongestionFailure where the greeting is 421; the socket is destroyed then.
   */
  static async open(socket: Socket, hop: NextHop, dialogue: Dialogue): Promise<Session> {
    const session = new Session(hop, new Wire(socket))
    const { signal } = dialogue
    const stop = () => session.destroy('given up')
    signal.addEventListener('abort', stop, { once: true })
    try {
      if (signal.aborted) stop()
      await session.#greet(dialogue)
      return session
    } catch (error) {
      session.destroy('failed')
      throw error
    } finally {
      signal.removeEventListener('abort', stop)
    }
  }

  /**
   * Sends a line and awaits the reply. A 421 closes the connection (RFC 5321 3.8) and is a HostFailure, as is a 3xx
   * that is not `goOn`.
   */
  async ask(line: string, ms: number, goOn?: number): Promise<RawReply> {
    return this.#checked(await this.wire.ask(line, ms), goOn)
  }

  /** Sends lines, at once where PIPELINING is offered (RFC 2920). `step` gives the time for the next reply, ms. */
  async askAll(lines: string[], step: () => number): Promise<RawReply[]> {
    if (this.offers('PIPELINING')) {
      return (await this.wire.askAll(lines, step())).map((reply) => this.#checked(reply))
    }
    const replies: RawReply[] = []
    for (const line of lines) replies.push(await this.ask(line, step()))
    return replies
  }

  /** Drops the connection at once; `why` is what anyone still waiting for a reply gets. */
  destroy(why: string) {
    this.wire.fail(new HostFailure(why, false))
  }

  /** Sends QUIT and closes; a host that does not answer is not waited for longer than `ms`. */
  async quit(ms = 1_000) {
    await this.wire.ask('QUIT', ms).catch(() => {})
    this.destroy('closed')
  }

  #checked(reply: RawReply, goOn?: number): RawReply {
    const odd = reply.code >= 300 && reply.code < 400 && reply.code !== goOn
    if (reply.code !== 421 && !odd) return reply
    const words = `answered ${reply.code} ${reply.lines.join(' ')}`
    const failure = new HostFailure(words, odd)
    this.wire.fail(failure)
    throw failure
  }

  async #greet(dialogue: Dialogue) {
    const { hop, wire } = this
    const { tls } = dialogue
    const step = () => stepTime(dialogue.timeout, dialogue.deadline)
    if (hop.implicitTls) await this.#encrypt(dialogue, step())
    const greeting = await wire.reply(step())
    if (greeting.code === 421)
      throw new CongestionFailure(`greeted with 421 ${greeting.lines.join(' ')}`, 'no more taken')
    expect(greeting, 220, 'greeted with')
    await this.#hello(dialogue, step())
    const offered = this.offers('STARTTLS')
    if (tls !== 'none' && !wire.encrypted && offered) {
      if ((await wire.ask('STARTTLS', step())).code === 220) {
        await this.#encrypt(dialogue, step())
        await this.#hello(dialogue, step())
      }
    }
    const clearIsFine = dialogue.tlsForLogin && !offered && isHere(hop, wire.remoteAddress)
    if (!wire.encrypted && !clearIsFine && (tls === 'encrypt' || tls === 'verify')) {
      throw new HostFailure('refuses TLS, which this route demands')
    }
    if (hop.user !== undefined) await this.#login(hop.user, hop.password ?? '', step)
  }

  async #encrypt({ tls, ca }: Dialogue, ms: number) {
    const { host } = this.hop
    // RFC 6066 3: no address in SNI. With `host`, Node checks the certificate against an address, too.
    const options = { host, servername: isIP(host) ? '' : host, rejectUnauthorized: tls === 'verify' }
    await this.wire.encrypt(ca ? { ...options, secureContext: trusting(ca) } : options, ms)
  }

  async #hello({ name, tls }: Dialogue, ms: number) {
    const verb = this.hop.protocol === 'lmtp' ? 'LHLO' : 'EHLO'
    const reply = await this.wire.ask(`${verb} ${name}`, ms)
    this.capabilities.clear()
    const plain = (tls === 'none' || tls === 'may') && this.hop.user === undefined && verb === 'EHLO'
    if (reply.code >= 500 && plain)
      return expect(await this.wire.ask(`HELO ${name}`, ms), 250, 'answered HELO with')
    expect(reply, 250, `answered ${verb} with`)
    for (const line of reply.lines.slice(1)) {
      const [keyword = '', ...parameters] = line.trim().split(/[ =]+/)
      this.capabilities.set(keyword.toUpperCase(), parameters.join(' ').toUpperCase())
    }
  }

  /** AUTH PLAIN (RFC 4616), else LOGIN. A password never leaves in clear, but to this machine. */
  async #login(user: string, password: string, step: () => number) {
    const { wire, hop } = this
    if (!wire.encrypted && !isHere(hop, wire.remoteAddress))
      throw new HostFailure('no TLS, and a password is not sent in clear')
    const methods = (this.capabilities.get('AUTH') ?? '').split(' ')
    const base64 = (text: string) => Buffer.from(text).toString('base64')
    const plain = methods.includes('PLAIN')
    if (!plain && !methods.includes('LOGIN')) throw new HostFailure('offers neither AUTH PLAIN nor LOGIN')
    const lines = plain
      ? [`AUTH PLAIN ${base64(`\0${user}\0${password}`)}`]
      : ['AUTH LOGIN', base64(user), base64(password)]
    for (const [index, line] of lines.entries())
      expect(await wire.ask(line, step()), index === lines.length - 1 ? 235 : 334, 'answered AUTH with')
    this.#authenticated = true
  }
}

function expect(reply: RawReply, code: number, what: string) {
  const fine = code === 250 ? isAccepted(reply) : reply.code === code
  if (!fine) throw new HostFailure(`${what} ${reply.code} ${reply.lines.join(' ')}`)
}
