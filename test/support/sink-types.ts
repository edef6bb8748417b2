// What a sink can be told, and what it keeps.
import type { Socket } from 'node:net'
import type { Certificate } from './certificate'

export type Stage =
  | 'greeting'
  | 'ehlo'
  | 'starttls'
  | 'auth'
  | 'mail'
  | 'rcpt'
  | 'data'
  | 'dot'
  | 'rset'
  | 'quit'

/** Reply lines; bytes as they are, for garbage; or how to fail. Nothing: the usual reply. */
export type Response = string | string[] | Buffer | 'drop' | 'hang' | undefined

export interface SinkSession {
  /** The how manieth connection, from 1. */
  number: number
  socket: Socket
  tls: boolean
  user?: string
  from?: string
  params: string
  to: string[]
  /** Octets that came behind the line that is being answered: the client did not wait. */
  pending: number
}

export interface SinkMessage {
  from: string
  to: string[]
  /** What followed the address in MAIL. */
  params: string
  /** Unstuffed, without the final dot. */
  data: Buffer
  tls: boolean
  user?: string
}

export interface SinkOptions {
  host?: string
  port?: number
  /** A unix socket in place of host and port. */
  path?: string
  lmtp?: boolean
  name?: string
  /** Offers STARTTLS. */
  tls?: Certificate
  /** TLS from the first byte, with `tls`. */
  implicitTls?: boolean
  /** What EHLO offers besides STARTTLS and AUTH. */
  extensions?: string[]
  /** Passwords by user: offers AUTH. */
  users?: Record<string, string>
  /** AUTH methods offered; default PLAIN and LOGIN. */
  methods?: string[]
  /** `argument` is what the client sent: the line, or at `dot` nothing. LMTP's dot: one line a recipient. */
  respond?: (stage: Stage, argument: string, session: SinkSession) => Response | Promise<Response>
  /** Awaited before more is read of a message. */
  pace?: () => Promise<void>
  /** Called with the octets of a message so far; return 'drop' or reply lines to break in. */
  onData?: (bytes: number, session: SinkSession) => Response
}

export interface Sink {
  host: string
  port: number
  path?: string
  messages: SinkMessage[]
  /** Every argument of RCPT seen: the address. */
  rcpts: string[]
  /** Every line seen outside of messages. */
  lines: string[]
  /** Connections, ever and now. */
  connections: number
  open: number
  /** The text of the next hop. */
  address(): string
  close(): Promise<void>
}
