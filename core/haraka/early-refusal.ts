// Refuses a recently refused client at accept(), before Haraka creates a Connection: that would run a dozen hooks and
// write two log lines for each connection of a flood.

import { Server, type Socket } from 'node:net'
import type { Decision, DecisionRecord } from '../decision'
import { formatIp, parseIp } from '../net/ip'
import { clean } from '../text'
import { recordRepeat } from './reply'
import type { Connection, Plugin } from './types'

/** A client is judged anew after this long (ms) at the latest, so that `unblock`, `reset` and a reload reach it. */
const REMEMBERED_FOR = 5000
/** A refusal that ends sooner (ms) is not worth remembering. */
const SHORTEST = 1000
/** Addresses that are remembered at most: some 3 MB. */
const CAPACITY = 10_000
/** A client that does not hang up after the reply is disconnected after this long (ms). */
const CLOSE_TIMEOUT = 2000

interface RecentRefusal {
  plugin: Plugin
  /** Until then the client is refused from memory, ms of the clock. */
  until: number
  /** When the client may come back, ms of the clock: replies name the time that is left. */
  back: number
  reply(left: number): Decision
  spoken: DecisionRecord
}

/** A client that was refused, and the reply it gets until it may come back. */
export interface Remembered {
  /** How the refusal was recorded: its id stands in the replies from memory, too. */
  spoken: DecisionRecord
  /** ms until the client may come back. */
  wait: number
  /** The refusal when `left` ms of that time are left. */
  reply(left: number): Decision
}

/** The two ends of a connection, as its socket has them. */
interface Ends {
  remoteAddress?: string | undefined
  localAddress?: string | undefined
  localPort?: number | undefined
}

/**
 * A client is told by both ends: at another address or port of ours it may be exempt ([listener]), and there may be other
 * listeners, for users.
 */
const nameOf = ({ remoteAddress, localAddress, localPort }: Ends): string =>
  `${remoteAddress} ${localAddress} ${localPort}`

/** True where both are the same address, whichever way it is written. */
function isAddress(text: string | undefined, ip: string): boolean {
  const address = text === undefined ? undefined : parseIp(text)
  return address !== undefined && formatIp(address) === ip
}

/** Remembers refused clients and refuses them at accept(). Bounded: the oldest are forgotten first. */
export class EarlyRefusal {
  /** By both ends of the socket; the oldest are dropped first. */
  #recent = new Map<string, RecentRefusal>()

  /** `now`: ms of a monotonic clock. */
  constructor(private readonly now: () => number = () => performance.now()) {}

  /** Not behind a PROXY or after XCLIENT, where the ends of the socket are not those that were judged. */
  remember(plugin: Plugin, connection: Connection, { spoken, wait, reply }: Remembered): void {
    const { client, remote, local, proxy } = connection
    const isDirect =
      isAddress(client.remoteAddress, remote.ip) &&
      isAddress(client.localAddress, local.ip) &&
      client.localPort === local.port
    if (!isDirect || proxy.allowed || wait < SHORTEST) return
    const now = this.now()
    if (this.#recent.size >= CAPACITY) this.#recent.delete(this.#recent.keys().next().value ?? '')
    this.#recent.set(nameOf(client), {
      plugin,
      until: now + Math.min(wait, REMEMBERED_FOR),
      back: now + wait,
      reply,
      spoken,
    })
  }

  /** Lets everybody be judged anew. */
  forgetAll(): void {
    this.#recent.clear()
  }

  /** Puts this before the listeners of a server. With TLS from the start no reply is possible before the handshake. */
  guard(server: unknown): void {
    if (!(server instanceof Server) || ('has_tls' in server && server.has_tls)) return
    const accept = server.listeners('connection')
    server.removeAllListeners('connection')
    server.on('connection', (socket: Socket) => {
      if (!this.#refuses(socket)) for (const listener of accept) listener.call(server, socket)
    })
  }

  #refuses(socket: Socket): boolean {
    if (this.#recent.size === 0) return false
    const name = nameOf(socket)
    const known = this.#recent.get(name)
    if (!known) return false
    const now = this.now()
    if (known.until <= now) {
      this.#recent.delete(name)
      return false
    }
    const { code, status, text } = known.reply(known.back - now)
    socket.on('error', () => socket.destroy())
    socket.setTimeout(CLOSE_TIMEOUT, () => socket.destroy())
    socket.resume()
    socket.end(`${code} ${status} ${clean(text)} (id ${known.spoken.id})\r\n`)
    recordRepeat(known.plugin, known.spoken)
    return true
  }
}

const earlyRefusal = new EarlyRefusal()

/** Remembers a refused client of this process. */
export const rememberRefused = (plugin: Plugin, connection: Connection, refusal: Remembered): void =>
  earlyRefusal.remember(plugin, connection, refusal)

/** For a new configuration. */
export const forgetRefused = (): void => earlyRefusal.forgetAll()

/** Puts the memory of refusals before the listeners of a server. */
export const guardListener = (server: unknown): void => earlyRefusal.guard(server)
