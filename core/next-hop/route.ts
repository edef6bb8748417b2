// What the caller gives: where to deliver and how, the sender's side of the envelope, and the client's settings.
import type { NextHop } from './address'

export type TlsMode = 'none' | 'may' | 'encrypt' | 'verify'

export interface Route {
  /** The same for routes that may share a transaction and connections. */
  key: string
  /** In order of preference; or a look-up, which may reject (DNS). */
  hops: NextHop[] | (() => Promise<NextHop[]>)
  /** none: never; may: if offered, unverified, else in clear; encrypt: required; verify: required and verified. */
  tls: TlsMode
  /** For each step of the dialogue, ms. */
  timeout: number
  /** For the answer after the final dot, ms. */
  timeoutFinal: number
}

export interface Envelope {
  /** Without angle brackets; '' is the null sender. */
  mailFrom: string
  /** Octets, if known (RFC 1870). */
  size?: number
  /** The client said BODY=8BITMIME (RFC 6152); passed on where it is offered. */
  eightBit?: boolean
  /** The client said SMTPUTF8, as for UTF-8 in the header (RFC 6531 3.4); passed on where it is offered. */
  utf8?: boolean
}

export interface Settings {
  /** Our name in EHLO. */
  name: string
  /** Whether an address is a listener of ours: mail to it would loop. */
  ownListener?: (ip: string, port: number) => boolean
  /** Certificate authorities for `verify` in place of Node's, PEM. */
  ca?: string
  /** For connecting to one host, ms. */
  connectTimeout?: number
  /** For all hosts together at one recipient, ms. */
  budget?: number
  /** A client this slow between two commands gives its connection back, ms. */
  idle?: number
  /** Connections to one route at most. */
  maxOpen?: number
  /** Connections kept for reuse: how many, for how long (ms), for how many transactions each. */
  maxIdle?: number
  idleTime?: number
  maxTransactions?: number
  /** How long a failed host rests at first and at most, ms. */
  rest?: number
  maxRest?: number
}

export type FullSettings = Required<Settings>

export const withDefaults = (settings: Settings): FullSettings => ({
  ownListener: () => false,
  ca: '',
  connectTimeout: 5_000,
  budget: 20_000,
  idle: 15_000,
  maxOpen: 100,
  maxIdle: 10,
  idleTime: 10_000,
  maxTransactions: 100,
  rest: 30_000,
  maxRest: 300_000,
  ...settings,
})

/** The milliseconds of a monotonic clock: deadlines must not move with the time of day. */
export const now = (): number => performance.now()

/** The time for one step that may take `timeout` but ends at `deadline`. */
export const stepTime = (timeout: number, deadline: number): number =>
  Math.max(1, Math.min(timeout, deadline - now()))
