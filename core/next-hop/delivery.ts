// One transaction with one next hop, over as many hosts and connections as it takes. Nothing here rejects: see failureReply.
import type { Connections } from './connections'
import { needsUtf8, sendEnvelope, sendRecipient, unsendable } from './envelope'
import { openEnvelope } from './failover'
import { hopKey } from './hosts'
import { askForData, type Source, SourceFailure, sendMessage } from './message'
import type { Holder } from './places'
import {
  failureReply,
  HostFailure,
  isAccepted,
  isDeferred,
  noAnswer,
  type Outcome,
  type Reply,
} from './reply'
import { type Envelope, now, type Route, stepTime } from './route'
import { Search } from './search'
import type { Session } from './session'

const OVER = noAnswer('The transaction is over')

/** Made by NextHopClient.open. Calls are carried out one after the other; none rejects. */
export class Delivery implements Holder {
  /** While it lives, with a transaction open. It, not this delivery, knows what it accepted. */
  #session: Session | undefined
  /** The recipients that the client was told yes for and that have not been taken back, with the answers. */
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
    /** For all hosts together at one recipient, ms. */
    readonly budget: number,
  ) {}

  /** The recipients that the next hop has accepted. */
  get held(): string[] {
    return [...this.#accepted.keys()]
  }

  /** Sends a recipient, MAIL before the first one, and returns the next hop's own answer, or noAnswer. */
  rcpt(address: string): Promise<Reply> {
    return this.#inTurn(OVER, async () => {
      const known = this.#accepted.get(address)
      if (known) return known
      const { budget } = this
      const deadline = now() + budget
      const session = this.#session
      const refusal = session && unsendable(session, this.envelope, address)
      if (refusal) return refusal
      if (session?.alive && session.transaction && (session.transaction.utf8 || !needsUtf8(address))) {
        try {
          // The other half is for another host.
          const reply = await sendRecipient(session, address, Math.min(this.route.timeout, budget / 2))
          this.#remember(new Map([[address, reply]]))
          return reply
        } catch {
          this.#drop()
        }
      }
      return (await this.#sendEnvelope([...this.#accepted.keys(), address], deadline)).get(address) ?? OVER
    })
  }

  /**
   * Makes what the next hop holds equal this list, and returns each one's answer: one that was accepted before may be
   * refused now, if the transaction had to be opened anew.
   */
  hold(recipients: string[]): Promise<Outcome[]> {
    const unique = new Set(recipients)
    const wanted = [...unique]
    const all = (replies: Map<string, Reply>) =>
      wanted.map((recipient) => ({ recipient, reply: replies.get(recipient) ?? OVER }))
    return this.#inTurn(all(new Map()), async () => {
      for (const one of this.held) if (!unique.has(one)) this.#accepted.delete(one)
      if (wanted.every((one) => this.#accepted.has(one)) && holds(this.#session, wanted))
        return all(this.#accepted)
      return all(await this.#sendEnvelope(wanted, now() + this.budget))
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
        const reply = failureReply(error)
        return forAll(error instanceof SourceFailure ? { ...reply, status: '4.3.0' } : reply)
      }
    })
    this.abort()
    return outcomes ?? forAll(OVER)
  }

  /** Ends the transaction: what is held is taken back with RSET, and no half message is ever completed. */
  abort() {
    if (this.#over) return
    this.#over = true
    if (!this.#busy) return this.#release()
    // With a reason of our own no error with a stack is made.
    this.#stop.abort('over')
    this.#session?.destroy('given up')
  }

  /** Its client idles and somebody else waits: the connection is theirs, and the envelope is sent again when needed. */
  giveWay() {
    if (!this.#busy) this.#release()
  }

  /** One after the other, and never rejecting; `over` is the answer after the end. */
  #inTurn<T>(over: T, act: () => Promise<T>): Promise<T> {
    const turn = this.#queue.then(async () => {
      if (this.#over) return over
      clearTimeout(this.#idle)
      this.connections.places.works(this)
      this.#busy = true
      try {
        return await act()
      } finally {
        this.#busy = false
        if (this.#session?.alive && !this.#over) this.#waitForClient()
        else this.#release()
      }
    })
    this.#queue = turn.catch(() => {})
    return turn
  }

  #waitForClient() {
    this.#idle = setTimeout(() => this.#release(), this.connections.settings.idle).unref()
    this.connections.places.idles(this)
  }

  async #sendAll(recipients: string[], source: Source): Promise<Outcome[]> {
    const { handOver } = this.connections.settings
    const deadline = now() + handOver
    const search = new Search(0, this.#stop.signal)
    const { timeout, timeoutFinal } = this.route
    while (recipients.length) {
      const held = holds(this.#session, recipients) ? this.#session : undefined
      const session = held ?? (await this.#openAgain(recipients, search, deadline))
      const { hop, peer } = session
      try {
        // One that hung up while the client was slow may be asked once more, on a new connection.
        if (!held) search.tried.add(hopKey(hop))
        const refusal = await askForData(session, stepTime(timeout, deadline))
        // One that carried other mail before may be spent: a new one may take the message.
        if (refusal && isDeferred(refusal) && session.transactions > 1) {
          search.tried.delete(hopKey(hop))
          search.stale.add(hopKey(hop))
          await session.quit()
          continue
        }
        if (refusal) return recipients.map((recipient) => ({ recipient, reply: refusal, peer }))
        search.tried.add(hopKey(hop))
        return await sendMessage(session, source, { timeout, timeoutFinal, deadline })
      } catch (error) {
        this.#drop()
        if (!(error instanceof HostFailure) || this.#over) throw error
        search.noted(hop, error)
        if (error.backsOff) this.connections.hosts.failed(hop, error)
      }
    }
    return []
  }

  /** All recipients or none: a client that is told 250 must not lose one, and 4xx brings it back to ask again. */
  async #openAgain(recipients: string[], search: Search, deadline: number): Promise<Session> {
    this.#drop()
    search.deadline = Math.min(now() + this.budget, deadline)
    const { route, envelope, connections } = this
    const { session, replies } = await openEnvelope(connections, route, envelope, recipients, search)
    this.#session = session
    const refused = [...replies.values()].find((reply) => !isAccepted(reply))
    if (refused) throw new HostFailure(`${refused.host} now answers ${refused.code} ${refused.text}`)
    return session
  }

  /** Sends the whole list: anew on the connection that is open, else to the first host that takes it. */
  async #sendEnvelope(list: string[], deadline: number): Promise<Map<string, Reply>> {
    const session = this.#session
    if (!list.length) {
      this.#release()
      return new Map()
    }
    if (session?.alive) {
      try {
        const half = (now() + deadline) / 2
        const step = () => stepTime(this.route.timeout, half)
        const { replies, spent } = await sendEnvelope(session, this.envelope, list, step)
        if (!spent) return this.#remember(replies)
        await session.quit()
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
      return new Map(list.map((recipient) => [recipient, failureReply(error)]))
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

  /** Gives the connection back; what was accepted is sent again when it is needed. */
  #release() {
    clearTimeout(this.#idle)
    this.connections.places.works(this)
    const session = this.#session
    this.#session = undefined
    if (session) this.connections.giveBack(session)
  }
}

/** Whether this session lives and its open transaction has these recipients, all of them and no others. */
function holds(session: Session | undefined, wanted: string[]): boolean {
  const accepted = session?.alive ? session.transaction?.accepted : undefined
  if (accepted?.length !== wanted.length) return false
  const held = new Set(accepted)
  return wanted.every((one) => held.has(one))
}
