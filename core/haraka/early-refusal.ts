// Refuses a recently refused client at accept(), before Haraka creates a Connection: that would run a dozen hooks and
// write two log lines for each connection of a flood.

import { Server, type Socket } from 'node:net'
import type { Decision, DecisionRecord } from '../decision'
import { memo } from '../memo'
import { formatIp, parseIp } from '../net/ip'
import { clean } from '../text'
import { AnsweredSockets } from './answered-sockets'
import { Hold } from './hold'
import { RefusalMemory } from './refusal-memory'
import { recordRepeat } from './reply'
import type { Connection, Next, Plugin } from './types'

/** A refusal that ends sooner (ms) is not worth remembering. */
const SHORTEST = 1000
/** A client is judged anew after this long (ms) at the latest: the id in its reply leads to a log line of that age. */
const LONGEST = 3_600_000
/** Refused clients that are remembered at most: some 35 MB. */
export const MOST_REMEMBERED = 50_000

/** A client that was refused, and what it is told until it may come back. */
export interface Remembered {
  /** The refusal, without the time that is left. */
  decision: Decision
  /** How it was recorded: its id stands in the replies from memory, too. */
  spoken: DecisionRecord
  /** ms until the client may come back. */
  wait: number
  /** The decision's text when `left` ms of that are left. */
  withTime?(text: string, left: number): string
  /** Who is refused, as in the Redis keys: `{ip:203.0.113.9}`. */
  tag?: string
  /** The client is judged anew after this long (ms) at the latest. */
  remembersFor?: number
}

/** What is kept of a refusal: some 700 bytes, with its texts and its place in the memory. */
interface Refused {
  plugin: Plugin
  code: number
  status: string
  text: string
  withTime(text: string, left: number): string
  /** When the client may come back, ms of the clock. */
  back: number
  id: string
  outcome: string
  rule: string
  ip: string
  subject: string | undefined
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

/** One copy of a text that many refusals have in common. */
const shared = memo((text) => text)

const asItIs = (text: string): string => text

/** Remembers refused clients, and refuses them at accept(). */
export class EarlyRefusal {
  #memory: RefusalMemory<Refused>

  /** `now`: ms of a monotonic clock. */
  constructor(
    private readonly now: () => number = () => performance.now(),
    private readonly hold = new Hold(),
    private readonly answered = new AnsweredSockets(),
  ) {
    this.#memory = new RefusalMemory(MOST_REMEMBERED, now)
  }

  /** Not behind a PROXY or after XCLIENT, where the ends of the socket are not those that were judged. */
  remember(plugin: Plugin, connection: Connection, refusal: Remembered): void {
    const { client, remote, local, proxy } = connection
    const { decision, spoken, wait, withTime = asItIs, tag = '', remembersFor = LONGEST } = refusal
    const isDirect =
      isAddress(client.remoteAddress, remote.ip) &&
      isAddress(client.localAddress, local.ip) &&
      client.localPort === local.port
    if (!isDirect || proxy.allowed || wait < SHORTEST) return
    const { code, status, outcome } = decision
    const { id, ip, subject } = spoken
    const text = clean(decision.text)
    const rule = shared(spoken.rule)
    const back = this.now() + wait
    const refused = { plugin, code, status, text, withTime, back, id, outcome, rule, ip, subject }
    this.#memory.set(nameOf(client), tag, refused, Math.min(wait, remembersFor, LONGEST))
  }

  /** Lets a subject be judged anew; without a tag everybody. */
  forget(tag?: string): void {
    if (tag === undefined) this.#memory.clear()
    else this.#memory.forget(tag)
  }

  /** Puts this before the listeners of a server. With TLS from the start no reply is possible before the handshake. */
  guard(server: unknown): void {
    if (!(server instanceof Server) || ('has_tls' in server && server.has_tls)) return
    const accept = server.listeners('connection')
    server.removeAllListeners('connection')
    server.on('connection', (socket: Socket) => {
      const refused = this.#memory.get(nameOf(socket))
      if (refused) this.#refuse(socket, refused)
      else for (const listener of accept) listener.call(server, socket)
    })
  }

  #refuse(socket: Socket, refused: Refused): void {
    const { plugin, code, status, text, withTime, back, id, outcome, rule, ip, subject } = refused
    const reply = `${code} ${status} ${clean(withTime(text, back - this.now()))}`
    recordRepeat(plugin, { id, outcome, rule, ip, ...(subject !== undefined && { subject }), reply })
    // A socket destroys itself on an error.
    socket.on('error', () => undefined)
    // Reads and drops what comes, and sees the client hang up.
    socket.resume()
    this.hold.add(() => {
      if (!socket.destroyed) this.answered.add(socket, `${reply} (id ${id})\r\n`)
    })
  }
}

const hold = new Hold()
const earlyRefusal = new EarlyRefusal(undefined, hold)

/** Holds the answer of a hook that refuses a client at connect, as refusals at accept() are held. */
export const held =
  (next: Next): Next =>
  (...answer) =>
    hold.add(() => next(...answer))

/** Remembers a refused client of this process. */
export const rememberRefused = (plugin: Plugin, connection: Connection, refusal: Remembered): void =>
  earlyRefusal.remember(plugin, connection, refusal)

/** Lets a subject be judged anew (its tag, as in the Redis keys); without one everybody, for a new configuration. */
export const forgetRefused = (tag?: string): void => earlyRefusal.forget(tag)

/** Puts the memory of refusals before the listeners of a server. */
export const guardListener = (server: unknown): void => earlyRefusal.guard(server)
