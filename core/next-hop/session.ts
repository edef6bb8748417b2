// One connection's dialogue up to where mail can be given: greeting, EHLO, STARTTLS, AUTH.
import { isIP, type Socket } from 'node:net'
import { type NextHop, printHost } from './address'
import { HostFailure, isAccepted, type Said } from './reply'
import { stepTime, type TlsMode } from './route'
import { Wire } from './wire'

export interface Dialogue {
  /** Our name in EHLO. */
  name: string
  tls: TlsMode
  /** Certificate authorities in place of Node's, PEM; '' for Node's. */
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

export class Session {
  /** What EHLO offered: keyword in upper case, and its parameters. */
  capabilities = new Map<string, string>()
  /** A transaction is open: MAIL was said since the last RSET or message. */
  inTransaction = false
  /** Its MAIL said SMTPUTF8. */
  utf8 = false
  transactions = 0
  /** It comes from the pool and has not answered since. */
  reused = false

  private constructor(
    readonly hop: NextHop,
    readonly wire: Wire,
  ) {}

  get host(): string {
    return printHost(this.hop)
  }

  get alive(): boolean {
    return !this.wire.failure
  }

  offers(capability: string): boolean {
    return this.capabilities.has(capability)
  }

  /**
   * Leads the dialogue on a connected socket. Rejects with HostFailure, and with TlsFailure where the handshake
   * failed; the socket is destroyed then.
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
   * Says a line and awaits the reply. A 421 closes the connection (RFC 5321 3.8) and is a HostFailure, as is a 3xx
   * that is not `goOn`.
   */
  async ask(line: string, ms: number, goOn?: number): Promise<Said> {
    return this.#checked(await this.wire.ask(line, ms), goOn)
  }

  /** Says lines, at once where PIPELINING is offered (RFC 2920). `step` gives the time for the next reply, ms. */
  async askAll(lines: string[], step: () => number): Promise<Said[]> {
    if (this.offers('PIPELINING')) {
      return (await this.wire.askAll(lines, step())).map((said) => this.#checked(said))
    }
    const said: Said[] = []
    for (const line of lines) said.push(await this.ask(line, step()))
    return said
  }

  /** Drops the connection at once. */
  destroy(why: string) {
    this.wire.fail(new HostFailure(why, false))
  }

  /** Says QUIT and closes; a host that does not answer is not waited for longer than `ms`. */
  async quit(ms = 1_000) {
    await this.wire.ask('QUIT', ms).catch(() => {})
    this.destroy('closed')
  }

  #checked(said: Said, goOn?: number): Said {
    const odd = said.code >= 300 && said.code < 400 && said.code !== goOn
    if (said.code !== 421 && !odd) return said
    const failure = new HostFailure(`said ${said.code} ${said.lines.join(' ')}`, odd)
    this.wire.fail(failure)
    throw failure
  }

  async #greet(dialogue: Dialogue) {
    const { hop, wire } = this
    const step = () => stepTime(dialogue.timeout, dialogue.deadline)
    if (hop.implicitTls) await this.#encrypt(dialogue, step())
    expect(await wire.reply(step()), 220, 'greeted with')
    await this.#hello(dialogue, step())
    const wanted = dialogue.tls !== 'none' && !wire.encrypted
    if (wanted && this.offers('STARTTLS')) {
      const said = await wire.ask('STARTTLS', step())
      if (said.code === 220) {
        await this.#encrypt(dialogue, step())
        await this.#hello(dialogue, step())
      }
    }
    if (!wire.encrypted && (dialogue.tls === 'encrypt' || dialogue.tls === 'verify')) {
      throw new HostFailure('refuses TLS, which this route demands')
    }
    if (hop.user !== undefined) await this.#login(hop.user, hop.password ?? '', step)
  }

  async #encrypt({ tls, ca }: Dialogue, ms: number) {
    const { host } = this.hop
    // RFC 6066 3: no address in SNI. With `host`, Node checks the certificate against an address, too.
    const options = { host, servername: isIP(host) ? '' : host, rejectUnauthorized: tls === 'verify' }
    await this.wire.encrypt(ca ? { ...options, ca } : options, ms)
  }

  async #hello({ name, tls }: Dialogue, ms: number) {
    const verb = this.hop.protocol === 'lmtp' ? 'LHLO' : 'EHLO'
    const said = await this.wire.ask(`${verb} ${name}`, ms)
    this.capabilities.clear()
    const plain = (tls === 'none' || tls === 'may') && this.hop.user === undefined && verb === 'EHLO'
    if (said.code >= 500 && plain)
      return expect(await this.wire.ask(`HELO ${name}`, ms), 250, 'answered HELO with')
    expect(said, 250, `answered ${verb} with`)
    for (const line of said.lines.slice(1)) {
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
    if (plain) {
      return expect(
        await wire.ask(`AUTH PLAIN ${base64(`\0${user}\0${password}`)}`, step()),
        235,
        'answered AUTH with',
      )
    }
    for (const line of ['AUTH LOGIN', base64(user)])
      expect(await wire.ask(line, step()), 334, 'answered AUTH with')
    expect(await wire.ask(base64(password), step()), 235, 'answered AUTH with')
  }
}

function expect(said: Said, code: number, what: string) {
  const fine = code === 250 ? isAccepted(said) : said.code === code
  if (!fine) throw new HostFailure(`${what} ${said.code} ${said.lines.join(' ')}`)
}
