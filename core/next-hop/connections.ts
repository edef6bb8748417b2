// All connections of one route: those kept for reuse, and a session when one is needed.
import type { Socket } from 'node:net'
import type { NextHop } from './address'
import { connectTo } from './connect'
import { resetSession } from './envelope'
import { type Connected, Hosts, hopKey } from './hosts'
import { Places } from './places'
import { CongestionFailure } from './reply'
import { DEFAULT_CONNECTIONS, type FullSettings, now, type Route, stepTime, type TlsMode } from './route'
import type { Search } from './search'
import { Session } from './session'
import { TlsFailure } from './wire'

interface Idle {
  session: Session
  timer: NodeJS.Timeout
}

/** A 421 greeting that is about the number of connections, in the words of the usual servers. */
const TOO_MANY = /too many|concurrent|simultaneous|limit/i
/**
 * A session with so many refusals is not used again: servers count them, answer late after 10 (Postfix:
 * smtpd_soft_error_limit) and hang up after 20 (smtpd_hard_error_limit).
 */
const MANY_REFUSALS = 8
/** A connection to a host that is short of them is kept no longer than this for reuse, ms: other workers want some, too. */
const SHORT_IDLE = 1_000

/** The pool of one route: its hosts, its places, and the sessions that are open. */
export class Connections {
  readonly hosts: Hosts
  readonly places: Places
  #open = new Set<Session>()
  #idle: Idle[] = []
  /** Sessions that are neither in use nor idle: they await the answer to RSET or QUIT. */
  #between = new Set<Promise<void>>()
  #closed = false
  #maxTransactions: number

  constructor(
    readonly settings: FullSettings,
    {
      connections = DEFAULT_CONNECTIONS,
      maxTransactions,
    }: Pick<Route, 'connections' | 'maxTransactions'> = {},
  ) {
    this.#maxTransactions = maxTransactions ?? settings.maxTransactions
    this.hosts = new Hosts(settings)
    this.places = new Places(connections, settings)
  }

  /** True when nothing would be lost with it but what it knows of its hosts. */
  get unused(): boolean {
    return this.places.taken === 0 && !this.places.awaited && this.#open.size === 0
  }

  /**
   * A session with the first host in order that has not had its turn, kept or new, and when this host's turn ends:
   * what time is left is shared by those that are left. The caller has a place. Rejects with HostFailure when no host
   * is left.
   */
  async session(route: Route, hops: NextHop[], search: Search): Promise<{ session: Session; until: number }> {
    for (;;) {
      const left = this.hosts.order(hops.filter((hop) => !search.tried.has(hopKey(hop))))
      const first = left[0]
      const time = search.deadline - now()
      if (time <= 0 || search.signal.aborted) throw search.failure
      if (!first) {
        if (await search.pause()) continue
        throw search.failure
      }
      const until = now() + time / left.length
      const kept = search.stale.has(hopKey(first)) ? undefined : this.#takeIdle(first)
      // If it turns out dead, a new one has its time, too.
      if (kept) return { session: kept, until: now() + time / (left.length + 1) }
      if (await this.#madeRoom()) continue
      const failed = (hop: NextHop, error: unknown) => search.failed(hop, error)
      const connectTime = Math.min(this.settings.connectTimeout, time)
      const connected = await this.hosts.connect(left, connectTime, search.signal, failed)
      if (!connected) continue
      try {
        return { session: await this.#dialogue(connected, route, until, search.signal), until }
      } catch (error) {
        await this.#refused(connected.hop, error, search)
      }
    }
  }

  /** Takes a session back, and its place. A transaction that is open is ended by RSET. */
  giveBack(session: Session) {
    const { connectTimeout } = this.settings
    if (session.alive) {
      const isSpent = session.transactions >= this.#maxTransactions || session.refusals >= MANY_REFUSALS
      if (this.#closed || isSpent) this.#quit(session)
      // Whoever waits sends RSET before its own MAIL, and need not wait for the answer to ours.
      else if (!session.transaction || this.places.awaited) this.#keep(session)
      else this.#whileBetween(this.#reset(session, connectTimeout))
    }
    this.places.free()
  }

  /** Sends QUIT on what is kept; what is in use is closed when it comes back. */
  async close() {
    this.#closed = true
    for (const idle of this.#idle.slice()) this.#evict(idle)
    await Promise.all(this.#between)
  }

  /**
   * A host refused a new connection. A 421 while it keeps others of ours, or about their number, is congestion: the
   * search waits. Anything else lets the host back off.
   */
  async #refused(hop: NextHop, error: unknown, search: Search): Promise<void> {
    const own = [...this.#open].filter((session) => hopKey(session.hop) === hopKey(hop)).length
    const isFull =
      error instanceof CongestionFailure &&
      (own > 0 || TOO_MANY.test(error.message)) &&
      !search.signal.aborted
    if (!isFull) {
      if (!search.signal.aborted) this.hosts.failed(hop, error)
      return search.failed(hop, error instanceof CongestionFailure ? error.message : error)
    }
    // Others have all that it allows.
    if (own === 0) return search.busy(hop, error)
    search.noted(hop, error)
    this.places.limit(own)
    await this.places.exchange(search)
  }

  async #dialogue(
    { hop, socket }: Connected,
    route: Route,
    deadline: number,
    signal: AbortSignal,
  ): Promise<Session> {
    const { name, connectTimeout } = this.settings
    const { timeout, ca = '', tlsForLogin = false } = route
    const open = async (socket: Socket, tls: TlsMode) => {
      const session = await Session.open(socket, hop, {
        name,
        ca,
        tls,
        tlsForLogin,
        timeout,
        deadline,
        signal,
      })
      this.#open.add(session)
      session.wire.onFailure = () => this.#gone(session)
      return session
    }
    try {
      return await open(socket, route.tls)
    } catch (error) {
      if (!(error instanceof TlsFailure) || route.tls !== 'may' || hop.implicitTls || signal.aborted)
        throw error
      const again = connectTo(hop, stepTime(connectTimeout, deadline), signal)
      return open(await again.connected, 'none')
    }
  }

  #takeIdle(hop: NextHop): Session | undefined {
    const key = hopKey(hop)
    const idle = this.#idle.filter(({ session }) => hopKey(session.hop) === key).at(-1)
    if (!idle) return undefined
    this.#forget(idle)
    idle.session.wire.setIdle(false)
    return idle.session
  }

  async #reset(session: Session, ms: number): Promise<void> {
    try {
      await resetSession(session, ms)
      this.#keep(session)
    } catch {
      session.destroy('does not answer RSET')
    }
  }

  /** For the next one: whoever waits for a place finds it here. */
  #keep(session: Session) {
    const { maxIdle, idleTime } = this.settings
    if (!session.alive) return
    if (this.#closed || (this.#idle.length >= maxIdle && !this.places.awaited)) return this.#quit(session)
    const time = this.places.isLimited ? Math.min(idleTime, SHORT_IDLE) : idleTime
    const idle: Idle = { session, timer: setTimeout(() => this.#evict(idle), time).unref() }
    session.reused = true
    session.wire.setIdle(true)
    this.#idle.push(idle)
  }

  /**
   * Whether something had to end first, so that no more are open than there are places. The search looks again then:
   * what was between may be kept now.
   */
  async #madeRoom(): Promise<boolean> {
    const { taken, capacity } = this.places
    if (taken + this.#idle.length + this.#between.size <= capacity) return false
    const oldest = this.#idle[0]
    if (oldest) this.#evict(oldest)
    if (!this.#between.size) return false
    await Promise.race(this.#between)
    return true
  }

  #evict(idle: Idle) {
    this.#forget(idle)
    this.#quit(idle.session)
  }

  #quit(session: Session) {
    this.#whileBetween(session.quit())
  }

  #whileBetween(work: Promise<void>) {
    const done = work.finally(() => this.#between.delete(done))
    this.#between.add(done)
  }

  #gone(session: Session) {
    this.#open.delete(session)
    const idle = this.#idle.find((one) => one.session === session)
    if (idle) this.#forget(idle)
  }

  #forget(idle: Idle) {
    clearTimeout(idle.timer)
    this.#idle = this.#idle.filter((one) => one !== idle)
  }
}
