// One attempt to connect to one host.
import { connect, type Socket } from 'node:net'
import type { NextHop } from './address'
import { HostFailure } from './reply'
import { errorName } from './wire'

/** An attempt to connect that is under way. */
export interface Attempt {
  socket: Socket
  /** Rejects with HostFailure. Whoever takes the socket must listen to its errors. */
  connected: Promise<Socket>
}

/** Begins to connect, for `timeout` ms at most. */
export function connectTo(hop: NextHop, timeout: number, signal: AbortSignal): Attempt {
  const socket = connect(hop.path === undefined ? { host: hop.host, port: hop.port } : { path: hop.path })
  const connected = new Promise<Socket>((resolve, reject) => {
    const end = (why: string) => {
      done()
      socket.destroy()
      reject(new HostFailure(why))
    }
    const stop = () => end('given up')
    const timer = setTimeout(() => end(`no connection within ${Math.round(timeout)} ms`), timeout).unref()
    const done = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', stop)
    }
    signal.addEventListener('abort', stop, { once: true })
    // Stays, so that an error between here and the session's own listener harms nobody.
    socket.on('error', (error) => end(errorName(error)))
    socket.once('connect', () => {
      done()
      resolve(socket)
    })
    if (signal.aborted) stop()
  })
  return { socket, connected }
}
