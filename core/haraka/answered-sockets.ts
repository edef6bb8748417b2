// Sockets of clients that were refused and told so: they stay open until the client hangs up, but not for long, and not
// too many of them.

import type { Socket } from 'node:net'
import { type Every, every } from './hold'

/** A client that does not hang up is disconnected after one to two times this long, ms. */
const PERIOD = 1000
/** Sockets that are open at most, a file descriptor each: beyond that the oldest is closed. */
export const MOST_OPEN = 500

/** Answers sockets and closes them, all by one timer. */
export class AnsweredSockets {
  /** Answered in this period, and in the one before. */
  #now = new Set<Socket>()
  #before = new Set<Socket>()
  #stop: (() => void) | undefined

  constructor(private readonly repeat: Every = every) {}

  /** Sends the client its last reply. What it sends must be read, or it may never see that (RFC 1122 4.2.2.13). */
  add(socket: Socket, reply: string): void {
    const sockets = this.#now
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.end(reply)
    this.#stop ??= this.repeat(PERIOD, () => this.#sweep())
    if (sockets.size + this.#before.size > MOST_OPEN) (first(this.#before) ?? first(sockets))?.destroy()
  }

  #sweep(): void {
    for (const socket of this.#before) socket.destroy()
    this.#before = this.#now
    this.#now = new Set()
    if (this.#before.size > 0) return
    this.#stop?.()
    this.#stop = undefined
  }
}

const first = <T>(set: Set<T>): T | undefined => set.values().next().value
