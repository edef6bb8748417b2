// Turns away at the door who was refused a moment ago: before Haraka makes a connection of the socket, which runs a
// dozen hooks and writes two lines to the log. A flood from one address costs others the less.

import { Server, type Socket } from 'node:net'
import type { Decision, DecisionRecord } from '../decision'
import { formatIp, parseIp } from '../net/ip'
import { clean } from '../text'
import { recordRepeat } from './reply'
import type { Connection, Next, Plugin } from './types'

/** Then the client is let in to be judged anew, ms: so `unblock`, `reset` and a reload reach it. */
const REMEMBERED_FOR = 5000
const CAPACITY = 10_000
/** How long a client that does not hang up is waited for, ms. */
const CLOSE_TIMEOUT = 2000

interface RecentRefusal {
  plugin: Plugin
  /** ms of the monotonic clock. */
  until: number
  /** The reply with the ms that are left. */
  say(left: number): Decision
  back: number
  spoken: DecisionRecord
}

/** By address as the socket has it; the longest there go first. */
const recentlyRefused = new Map<string, RecentRefusal>()

/**
 * Remembers a refused client for `wait` ms. `spoken`: how the refusal was recorded; its id stands in the replies at the
 * door, too. Not behind a PROXY or after XCLIENT, where the socket's address is not the client's.
 */
export function rememberRefused(
  plugin: Plugin,
  { client, remote, proxy }: Connection,
  { spoken, wait, say }: { spoken: DecisionRecord; wait: number; say(left: number): Decision },
): void {
  const address = client.remoteAddress
  const ip = address === undefined ? undefined : parseIp(address)
  if (address === undefined || !ip || formatIp(ip) !== remote.ip || proxy.allowed || wait < 1000) return
  const now = performance.now()
  if (recentlyRefused.size >= CAPACITY) recentlyRefused.delete(recentlyRefused.keys().next().value ?? '')
  recentlyRefused.set(address, {
    plugin,
    until: now + Math.min(wait, REMEMBERED_FOR),
    back: now + wait,
    say,
    spoken,
  })
}

/** For a new configuration. */
export const forgetRefused = (): void => recentlyRefused.clear()

/** Stands at the door of each listener without TLS; with TLS there is no reply before the handshake. */
export function refuseEarly(next: Next, { listeners }: { listeners: unknown[] }): void {
  for (const server of listeners) {
    if (!(server instanceof Server) || ('has_tls' in server && server.has_tls)) continue
    const letIn = server.listeners('connection')
    server.removeAllListeners('connection')
    server.on('connection', (socket: Socket) => {
      if (!refuseKnown(socket)) for (const listener of letIn) listener.call(server, socket)
    })
  }
  next()
}

function refuseKnown(socket: Socket): boolean {
  if (recentlyRefused.size === 0) return false
  const address = socket.remoteAddress ?? ''
  const known = recentlyRefused.get(address)
  if (!known) return false
  const now = performance.now()
  if (known.until <= now) {
    recentlyRefused.delete(address)
    return false
  }
  const { code, status, text } = known.say(known.back - now)
  socket.on('error', () => socket.destroy())
  socket.setTimeout(CLOSE_TIMEOUT, () => socket.destroy())
  socket.resume()
  socket.end(`${code} ${status} ${clean(text)} (id ${known.spoken.id})\r\n`)
  recordRepeat(known.plugin, known.spoken)
  return true
}
