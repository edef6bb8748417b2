// One transaction with one next hop, over as many hosts and connections as it takes. Nothing here rejects: see noAnswer.
import { type Connections, Search } from './connections'
import { needsUtf8, sayEnvelope, sayRecipient, unsayable } from './envelope'
import { openEnvelope } from './failover'
import { hopKey } from './hosts'
import { askForData, type Source, SourceFailure, sendMessage } from './message'
import { HostFailure, isAccepted, noAnswer, type Outcome, type Reply } from './reply'
import { type Envelope, now, type Route, stepTime } from './route'
import type { Session } from './session'

const OVER = noAnswer('The transaction is over')

export class Delivery {
  /** With a transaction open that holds #accepted, as long as it lives. */
  #session: Session | undefined
  /** Recipients that the next hop accepted and that have not been taken back, with its answers. */
  #accepted = new Map<string, Reply>()
  #idle: NodeJS.Timeout | undefined
  #queue: Promise<unknown> = Promise.resolve()
  #busy = false
  #over = false
  #stop = new AbortController()

  constructor(
    readonly route: Route,
    readonly envelope: Envelope,
    readonly connections: Connections,
  ) {}

  /** The recipients that the next hop has accepted. */
  get held(): string[] {
    return [...this.#accepted.keys()]
  }

  /** Says a recipient, MAIL before the first one, and returns the next hop's own answer, or noAnswer. */
  rcpt(address: string): Promise<Reply> {
    return this.#inTurn(OVER, async () => {
      const known = this.#accepted.get(address)
      if (known) return known
      const { budget } = this.connections.settings
      const deadline = now() + budget
      const session = this.#session
      const refusal = session && unsayable(session, this.envelope, address)
      if (refusal) return refusal
      if (session?.alive && session.inTransaction && (session.utf8 || !needsUtf8(address))) {
        try {
          // The other half is for another host.
          const reply = await sayRecipient(session, address, Math.min(this.route.timeout, budget / 2))
          this.#remember(new Map([[address, reply]]))
          return reply
        } catch {
          this.#drop()
        }
      }
      return (await this.#say([...this.#accepted.keys(), address], deadline)).get(address) ?? OVER
    })
  }

  /**
   * Makes what the next hop holds equal this list, and returns each one's answer: one that was accepted before may be
   * refused now, if the transaction had to be opened anew.
   */
  hold(recipients: string[]): Promise<Outcome[]> {
    const wanted = [...new Set(recipients)]
    const all = (replies: Map<string, Reply>) =>
      wanted.map((recipient) => ({ recipient, reply: replies.get(recipient) ?? OVER }))
    return this.#inTurn(all(new Map()), async () => {
      const same = wanted.length === this.#accepted.size && wanted.every((one) => this.#accepted.has(one))
      if (same && this.#session?.alive) return all(this.#accepted)
      for (const one of this.held) if (!wanted.includes(one)) this.#accepted.delete(one)
      return all(await this.#say(wanted, now() + this.connections.settings.budget))
    })
  }

  /**
   * Sends the message to all that are held, and ends the transaction. SMTP: one answer for all; LMTP: each its own.
   * A failure is retried with the next host until the final dot is written, after it never: noAnswer with 4.4.2.
   */
  async send(source: Source): Promise<Outcome[]> {
    const forAll = (reply: Reply) => this.held.map((recipient) => ({ recipient, reply }))
    const outcomes = await this.#inTurn(undefined, async () => {
      try {
        return await this.#sendAll(this.held, source)
      } catch (error) {
        return forAll(noAnswer(describe(error), '', error instanceof SourceFailure ? '4.3.0' : '4.4.1'))
      }
    })
    this.abort()
    return outcomes ?? forAll(OVER)
  }

  /** Ends the transaction: what is held is taken back with RSET, and no half message is ever completed. */
  abort() {
    if (this.#over) return
    this.#over = true
    // With a reason of our own no error with a stack is made, once a message.
    this.#stop.abort('over')
    if (this.#busy) this.#session?.destroy('given up')
    else this.#release()
  }

  /** One after the other, and never rejecting; `over` is the answer after the end. */
  #inTurn<T>(over: T, act: () => Promise<T>): Promise<T> {
    const turn = this.#queue.then(async () => {
      if (this.#over) return over
      clearTimeout(this.#idle)
      this.#busy = true
      try {
        return await act()
      } finally {
        this.#busy = false
        if (this.#over) this.#release()
        else this.#idle = setTimeout(() => this.#release(), this.connections.settings.idle).unref()
      }
    })
    this.#queue = turn.catch(() => {})
    return turn
  }

  async #sendAll(recipients: string[], source: Source): Promise<Outcome[]> {
    const search = new Search(0, this.#stop.signal)
    while (recipients.length) {
      const held = this.#session?.alive ? this.#session : undefined
      const session = held ?? (await this.#openAgain(recipients, search))
      try {
        // One that hung up while the client was slow may be asked once more, on a new connection.
        if (!held) search.tried.add(hopKey(session.hop))
        const refusal = await askForData(session, this.route.timeout)
        if (refusal) return recipients.map((recipient) => ({ recipient, reply: refusal }))
        search.tried.add(hopKey(session.hop))
        return await sendMessage(session, recipients, source, this.route)
      } catch (error) {
        this.#drop()
        if (!(error instanceof HostFailure) || this.#over) throw error
        search.noted(session.hop, error)
        if (error.rests) this.connections.hosts.failed(session.hop)
      }
    }
    return []
  }

  /** All recipients or none: a client that is told 250 must not lose one, and 4xx brings it back to ask again. */
  async #openAgain(recipients: string[], search: Search): Promise<Session> {
    this.#drop()
    search.deadline = now() + this.connections.settings.budget
    const { route, envelope, connections } = this
    const { session, replies } = await openEnvelope(connections, route, envelope, recipients, search)
    this.#session = session
    const refused = [...replies.values()].find((reply) => !isAccepted(reply))
    if (refused) throw new HostFailure(`${refused.host} now says ${refused.code} ${refused.text}`)
    return session
  }

  /** Says the whole list: anew on the connection that is open, else on the first host that takes it. */
  async #say(list: string[], deadline: number): Promise<Map<string, Reply>> {
    const session = this.#session
    if (!list.length) {
      this.#release()
      return new Map()
    }
    if (session?.alive) {
      try {
        const half = (now() + deadline) / 2
        const step = () => stepTime(this.route.timeout, half)
        return this.#remember(await sayEnvelope(session, this.envelope, list, step))
      } catch {
        session.destroy('failed')
      }
    }
    this.#drop()
    const search = new Search(deadline, this.#stop.signal)
    try {
      const opened = await openEnvelope(this.connections, this.route, this.envelope, list, search)
      this.#session = opened.session
      return this.#remember(opened.replies)
    } catch (error) {
      return new Map(list.map((recipient) => [recipient, noAnswer(describe(error))]))
    }
  }

  #remember(replies: Map<string, Reply>): Map<string, Reply> {
    for (const [recipient, reply] of replies) {
      if (isAccepted(reply)) this.#accepted.set(recipient, reply)
      else this.#accepted.delete(recipient)
    }
    return replies
  }

  /** Closes the connection. */
  #drop() {
    this.#session?.destroy('dropped')
    this.#release()
  }

  /** Gives the connection back; what was accepted is said again when it is needed. */
  #release() {
    clearTimeout(this.#idle)
    const session = this.#session
    this.#session = undefined
    if (session) this.connections.giveBack(session)
  }
}

const describe = (error: unknown): string => (error instanceof Error ? error.message : String(error))
