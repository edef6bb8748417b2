// The hosts of one route: their order, which of them back off, and the race to connect to the first that lives.
import type { Socket } from 'node:net'
import type { NextHop } from './address'
import { type Attempt, connectTo } from './connect'
import { HostFailure } from './reply'
import type { FullSettings } from './route'

interface State {
  backsOffUntil: number
  /** How long it backs off next time it fails, ms. */
  backOff: number
  connectTime: number | undefined
}

/** A connection that has come about. */
export interface Connected {
  hop: NextHop
  socket: Socket
}

const keys = new WeakMap<NextHop, string>()

/** Tells hosts apart, with their logins. Never shown: it holds the password. Kept, for each step with a host asks. */
export function hopKey(hop: NextHop): string {
  const key = keys.get(hop) ?? JSON.stringify(Object.entries(hop).sort())
  keys.set(hop, key)
  return key
}

/** The state of a route's hosts, by hopKey: who backs off until when, and how long connecting takes. */
export class Hosts {
  #states = new Map<string, State>()

  constructor(readonly settings: FullSettings) {}

  /** As given, those that back off last. */
  order(hops: NextHop[]): NextHop[] {
    const now = this.settings.clock()
    const backsOff = (hop: NextHop) => this.#state(hop).backsOffUntil > now
    return [...hops.filter((hop) => !backsOff(hop)), ...hops.filter(backsOff)]
  }

  /** It backs off now, each time twice as long as before. */
  failed(hop: NextHop, error: unknown) {
    const state = this.#state(hop)
    const { clock, maxBackOff, health } = this.settings
    health.down(hop, error, state.backOff)
    state.backsOffUntil = clock() + state.backOff
    state.backOff = Math.min(state.backOff * 2, maxBackOff)
  }

  /** It took part in a transaction, whatever it answered. */
  worked(hop: NextHop) {
    this.settings.health.back(hop)
    Object.assign(this.#state(hop), { backsOffUntil: 0, backOff: this.settings.backOff })
  }

  /**
   * Connects to the first of these hosts. One that takes much longer than usual is helped out by the next one, side
   * by side, and the first that is connected wins. The others' connections end unused, but whether they came about
   * is remembered: a slow host is given more time, a dead one backs off.
   * `failed` hears of each host that cannot be reached. Nothing comes back when none can.
   */
  connect(
    hops: NextHop[],
    timeout: number,
    signal: AbortSignal,
    failed: (hop: NextHop, error: unknown) => void,
  ): Promise<Connected | undefined> {
    return new Promise((resolve) => {
      const attempts: Attempt[] = []
      let next = 0
      let running = 0
      let settled = false
      let timer: NodeJS.Timeout | undefined
      // Only until the race is decided: the others' attempts outlive the transaction that made them.
      const giveUp = new AbortController()
      const stop = () => giveUp.abort()
      signal.addEventListener('abort', stop, { once: true })
      const settle = (connected?: Connected) => {
        settled = true
        clearTimeout(timer)
        signal.removeEventListener('abort', stop)
        // Nobody waits for the others; they keep no process alive.
        for (const { socket } of attempts) if (socket !== connected?.socket) socket.unref()
        resolve(connected)
      }
      const start = () => {
        clearTimeout(timer)
        const hop = hops[next++]
        if (!hop || settled) return
        running++
        timer = setTimeout(start, this.patience(hop))
        const attempt = connectTo(hop, timeout, giveUp.signal)
        attempts.push(attempt)
        this.#judge(hop, attempt, giveUp.signal).then(
          (socket) => {
            if (settled) socket.destroy()
            else settle({ hop, socket })
          },
          (error) => {
            running--
            failed(hop, error)
            if (settled) return
            if (next < hops.length && !signal.aborted) start()
            else if (!running) settle()
          },
        )
      }
      if (signal.aborted) settle()
      else start()
    })
  }

  /** How long a host may take to connect before the next one is tried beside it, ms. */
  patience(hop: NextHop): number {
    return Math.max(this.settings.patience, 4 * (this.#state(hop).connectTime ?? 0))
  }

  /** Waits for an attempt and remembers how it went. */
  async #judge(hop: NextHop, attempt: Attempt, signal: AbortSignal): Promise<Socket> {
    const { clock, ownListener } = this.settings
    const begin = clock()
    try {
      const socket = await attempt.connected
      this.#state(hop).connectTime = clock() - begin
      const ip = socket.remoteAddress?.replace(/^::ffff:/, '')
      if (!ip || !ownListener(ip, hop.port)) return socket
      socket.destroy()
      throw new HostFailure('is a listener of ours: mail would loop')
    } catch (error) {
      if (!signal.aborted) this.failed(hop, error)
      throw error
    }
  }

  #state(hop: NextHop): State {
    const key = hopKey(hop)
    const { backOff } = this.settings
    const state = this.#states.get(key) ?? { backsOffUntil: 0, backOff, connectTime: undefined }
    this.#states.set(key, state)
    return state
  }
}
