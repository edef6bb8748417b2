// A real small SMTP or LMTP server that keeps what it gets and misbehaves as told.
import { createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { freePort } from './ports'
import { Speaker } from './sink-speaker'
import type { Sink, SinkOptions } from './sink-types'

export type { Response, Sink, SinkMessage, SinkOptions, SinkSession, Stage } from './sink-types'

/** Starts one. Close it at the end of the test. */
export async function startSink(options: SinkOptions = {}): Promise<Sink> {
  const sockets = new Set<Socket>()
  const host = options.host ?? '127.0.0.1'
  const accept = (socket: Socket) => {
    sockets.add(socket)
    sink.connections++
    sink.open++
    socket.on('error', () => {})
    socket.on('close', () => {
      sockets.delete(socket)
      sink.open--
    })
    new Speaker(socket, sink, options).start()
  }
  const server: Server = options.implicitTls
    ? createTlsServer({ ...options.tls, noDelay: true }, accept).on('tlsClientError', () => {})
    : createServer({ noDelay: true }, accept)
  const sink: Sink = {
    host,
    port: 0,
    ...(options.path !== undefined && { path: options.path }),
    messages: [],
    rcpts: [],
    lines: [],
    connections: 0,
    open: 0,
    address: () => {
      if (options.path !== undefined) return `lmtp:unix:${options.path}`
      const scheme = options.implicitTls ? 'smtps' : options.lmtp ? 'lmtp' : 'smtp'
      return `${scheme}://${host.includes(':') ? `[${host}]` : host}:${sink.port}`
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        for (const socket of sockets) socket.destroy()
      }),
  }
  const port = options.port ?? (options.path === undefined ? await freePort() : 0)
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    if (options.path !== undefined) server.listen(options.path, resolve)
    else server.listen(port, host, resolve)
  })
  const address = server.address()
  if (address && typeof address === 'object') sink.port = address.port
  return sink
}
