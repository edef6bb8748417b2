// All connections of one route: how many there may be, those kept for reuse, and a session when one is needed.
import { type NextHop, printHost } from './address'
import { connectTo } from './connect'
import { type Connected, Hosts, hopKey } from './hosts'
import { HostFailure } from './reply'
import { type FullSettings, now, type Route, stepTime, type TlsMode } from './route'
import { Session } from './session'
import { TlsFailure } from './wire'

interface Idle {
  session: Session
  timer: NodeJS.Timeout
}

/** One search for a host that takes the envelope. */
export class Search {
  /** Hosts that had their turn. */
  readonly tried = new Set<string>()
  /** Hosts whose kept connection was dead: theirs must be a new one. */
  readonly stale = new Set<string>()
  #failures: string[] = []

  constructor(
    /** When it must be over, on the clock of `now()`. */
    public deadline: number,
    readonly signal: AbortSignal,
  ) {}

  failed(hop: NextHop, error: unknown) {
    this.tried.add(hopKey(hop))
    this.noted(hop, error)
  }

  noted(hop: NextHop, error: unknown) {
    this.#failures.push(`${printHost(hop)}: ${error instanceof Error ? error.message : error}`)
  }

  /** Why it ended without a host. */
  get failure(): HostFailure {
    return new HostFailure(this.#failures.join('; ') || 'no host could be tried in time', false)
  }
}

export class Connections {
  readonly hosts: Hosts
  #active = 0
  #idle: Idle[] = []
  #waiting: (() => void)[] = []
  #closed = false

  constructor(readonly settings: FullSettings) {
    this.hosts = new Hosts(settings)
  }

  /** True when nothing would be lost with it but what it knows of its hosts. */
  get unused(): boolean {
    return this.#active === 0 && this.#idle.length === 0
  }

  /** Takes one of the route's places. Rejects with HostFailure at the deadline. */
  async enter({ deadline, signal }: Search): Promise<void> {
    if (this.#active < this.settings.maxOpen) {
      this.#active++
      return
    }
    await new Promise<void>((resolve, reject) => {
      const end = (settle: () => void) => {
        clearTimeout(timer)
        signal.removeEventListener('abort', stop)
        this.#waiting = this.#waiting.filter((waiting) => waiting !== come)
        settle()
      }
      const come = () => end(resolve)
      const refuse = (why: string) => end(() => reject(new HostFailure(why, false)))
      const stop = () => refuse('given up')
      const timer = setTimeout(() => refuse('too many connections are open'), stepTime(Infinity, deadline))
      signal.addEventListener('abort', stop, { once: true })
      this.#waiting.push(come)
    })
  }

  /** Gives the place to who waits, else back. */
  leave() {
    const next = this.#waiting[0]
    if (next) next()
    else this.#active--
  }

  /**
   * A session with the first host in order that has not had its turn, kept or new, and when this host's turn ends:
   * what time is left is shared by those that are left. Rejects with HostFailure when none is left.
   */
  async session(route: Route, hops: NextHop[], search: Search): Promise<{ session: Session; until: number }> {
    for (;;) {
      const left = this.hosts.order(hops.filter((hop) => !search.tried.has(hopKey(hop))))
      const first = left[0]
      const time = search.deadline - now()
      if (!first || time <= 0 || search.signal.aborted) throw search.failure
      const until = now() + time / left.length
      const kept = search.stale.has(hopKey(first)) ? undefined : this.#take(first)
      // If it turns out dead, a new one has its time, too.
      if (kept) return { session: kept, until: now() + time / (left.length + 1) }
      this.#makeRoom()
      const failed = (hop: NextHop, error: unknown) => search.failed(hop, error)
      const connectTime = Math.min(this.settings.connectTimeout, time)
      const connected = await this.hosts.connect(left, connectTime, search.signal, failed)
      if (!connected) continue
      try {
        return { session: await this.#dialogue(connected, route, until, search.signal), until }
      } catch (error) {
        if (!search.signal.aborted) this.hosts.failed(connected.hop)
        search.failed(connected.hop, error)
      }
    }
  }

  /** Takes a session back, and its place. A transaction that is open is ended by RSET. */
  giveBack(session: Session) {
    if (!session.inTransaction) return this.#keep(session)
    session.ask('RSET', this.settings.connectTimeout).then(
      ({ code }) => {
        session.inTransaction = code !== 250
        this.#keep(session)
      },
      () => this.#keep(session),
    )
  }

  /** Says QUIT on what is kept; what is in use is closed when it comes back. */
  async close() {
    this.#closed = true
    await Promise.all(this.#idle.slice().map((idle) => this.#evict(idle)))
  }

  async #dialogue(
    { hop, socket }: Connected,
    route: Route,
    deadline: number,
    signal: AbortSignal,
  ): Promise<Session> {
    const { name, ca, connectTimeout } = this.settings
    const dialogue = (tls: TlsMode) => ({ name, ca, tls, timeout: route.timeout, deadline, signal })
    try {
      return await Session.open(socket, hop, dialogue(route.tls))
    } catch (error) {
      if (!(error instanceof TlsFailure) || route.tls !== 'may' || hop.implicitTls || signal.aborted)
        throw error
      const again = connectTo(hop, stepTime(connectTimeout, deadline), signal)
      return Session.open(await again.connected, hop, dialogue('none'))
    }
  }

  #take(hop: NextHop): Session | undefined {
    const key = hopKey(hop)
    const idle = this.#idle.filter(({ session }) => hopKey(session.hop) === key).at(-1)
    if (!idle) return undefined
    this.#forget(idle)
    idle.session.wire.setIdle(false)
    return idle.session
  }

  /** For the next one, if it may be kept: whoever waits for a place finds it there. */
  #keep(session: Session) {
    const { maxIdle, idleTime, maxTransactions } = this.settings
    const worn = session.inTransaction || session.transactions >= maxTransactions
    if (session.alive && (this.#closed || worn || this.#idle.length >= maxIdle)) void session.quit()
    else if (session.alive) {
      const idle: Idle = { session, timer: setTimeout(() => void this.#evict(idle), idleTime).unref() }
      session.reused = true
      session.wire.onFailure = () => this.#forget(idle)
      session.wire.setIdle(true)
      this.#idle.push(idle)
    }
    this.leave()
  }

  #makeRoom() {
    const oldest = this.#idle[0]
    if (oldest && this.#active + this.#idle.length > this.settings.maxOpen) void this.#evict(oldest)
  }

  #evict(idle: Idle): Promise<void> {
    this.#forget(idle)
    return idle.session.quit()
  }

  #forget(idle: Idle) {
    clearTimeout(idle.timer)
    idle.session.wire.onFailure = undefined
    this.#idle = this.#idle.filter((one) => one !== idle)
  }
}
