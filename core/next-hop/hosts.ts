// The hosts of one route: their order, which of them rest, and the race to connect to the first that lives.
import type { Socket } from 'node:net'
import type { NextHop } from './address'
import { type Attempt, connectTo } from './connect'
import { HostFailure } from './reply'
import { type FullSettings, now } from './route'

interface State {
  restsUntil: number
  /** How long it rests next time it fails, ms. */
  rest: number
  connectTime: number | undefined
}

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

export class Hosts {
  #states = new Map<string, State>()

  /** `clock` in ms. */
  constructor(
    readonly settings: FullSettings,
    readonly clock: () => number = now,
  ) {}

  /** As given, those that rest last. */
  order(hops: NextHop[]): NextHop[] {
    const resting = (hop: NextHop) => this.#state(hop).restsUntil > this.clock()
    return [...hops.filter((hop) => !resting(hop)), ...hops.filter(resting)]
  }

  failed(hop: NextHop) {
    const state = this.#state(hop)
    state.restsUntil = this.clock() + state.rest
    state.rest = Math.min(state.rest * 2, this.settings.maxRest)
  }

  worked(hop: NextHop) {
    Object.assign(this.#state(hop), { restsUntil: 0, rest: this.settings.rest })
  }

  /**
   * Connects to the first of these hosts. One that takes much longer than usual is helped out by the next one, side
   * by side, and the first that is connected wins. The others' connections end unused, but whether they came about
   * is remembered: a slow host is given more time, a dead one rests.
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
        // Nobody waits for the rest; they keep no process alive.
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

  /** Waits for an attempt and remembers how it went. */
  async #judge(hop: NextHop, attempt: Attempt, signal: AbortSignal): Promise<Socket> {
    const begin = this.clock()
    try {
      const socket = await attempt.connected
      this.#state(hop).connectTime = this.clock() - begin
      const ip = socket.remoteAddress?.replace(/^::ffff:/, '')
      if (!ip || !this.settings.ownListener(ip, hop.port)) return socket
      socket.destroy()
      throw new HostFailure('is a listener of ours: mail would loop')
    } catch (error) {
      if (!signal.aborted) this.failed(hop)
      throw error
    }
  }

  /** How long a host may take to connect before the next one is tried beside it, ms. */
  patience(hop: NextHop): number {
    return Math.max(80, 4 * (this.#state(hop).connectTime ?? 0))
  }

  #state(hop: NextHop): State {
    const key = hopKey(hop)
    const state = this.#states.get(key) ?? { restsUntil: 0, rest: this.settings.rest, connectTime: undefined }
    this.#states.set(key, state)
    return state
  }
}
