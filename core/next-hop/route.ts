// What the caller gives: where to deliver and how, the sender's side of the envelope, and the client's settings.
import type { NextHop } from './address'
import { Health, type HealthLog } from './health'

/** How TLS is used with a next hop; see `Route.tls`. */
export type TlsMode = 'none' | 'may' | 'encrypt' | 'verify'

/** Where a message goes, and how. */
export interface Route {
  /** The same for routes that may share a transaction and connections. */
  key: string
  /** In order of preference; or a look-up, which may reject (DNS). */
  hops: NextHop[] | (() => Promise<NextHop[]>)
  /** none: never; may: if offered, unverified, else in clear; encrypt: required; verify: required and verified. */
  tls: TlsMode
  /**
   * `tls` is `verify` only because a login goes with it, not by the operator's word: on loopback, where no TLS is
   * offered, the login may go in clear.
   */
  tlsForLogin?: boolean
  /** Certificate authorities beside Node's, PEM. */
  ca?: string
  /** Connections at once to its hosts, all together; default 20. */
  connections?: number
  /** Transactions on one connection; default `Settings.maxTransactions`. */
  maxTransactions?: number
  /** For each step of the dialogue, ms. */
  timeout: number
  /** For the answer after the final dot, ms. */
  timeoutFinal: number
}

/** Below Postfix's 50 a client (smtpd_client_connection_count_limit) with two workers, and within Exim's and Dovecot's defaults. */
export const DEFAULT_CONNECTIONS = 20

/** The sender's side of an envelope. */
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

/** How a client for next hops behaves; what is not given has a default. */
export interface Settings {
  /** Our name in EHLO. */
  name: string
  /** Whether an address is a listener of ours: mail to it would loop. */
  ownListener?: (ip: string, port: number) => boolean
  /** Hears of each host that goes down or comes back, once a change. */
  log?: HealthLog
  /** For connecting to one host, ms. */
  connectTimeout?: number
  /** How long a host may take to connect at least before the next one is tried beside it, ms. */
  patience?: number
  /** For all hosts together at one recipient, ms. */
  budget?: number
  /** For the whole hand-over of a message, from DATA to the last answer, retries included, ms. */
  handOver?: number
  /** A client this slow between two commands gives its connection back, ms. */
  idle?: number
  /** Between two commands a client keeps its connection at least this long although others wait for one, ms. */
  grace?: number
  /** Connections kept for reuse: how many, for how long (ms), for how many transactions each. */
  maxIdle?: number
  idleTime?: number
  maxTransactions?: number
  /** How long a failed host backs off at first and at most, ms. */
  backOff?: number
  maxBackOff?: number
  /** How long it is remembered how many connections a host allowed, ms. */
  limitMemory?: number
  /** Milliseconds that only grow. */
  clock?: () => number
}

/** The settings with their defaults. */
export type FullSettings = Required<Omit<Settings, 'log'>> & { health: Health }

/** The settings with every value that was not given at its default. */
export const withDefaults = ({ log = () => {}, ...settings }: Settings): FullSettings => ({
  ownListener: () => false,
  health: new Health(log),
  connectTimeout: 5_000,
  patience: 80,
  budget: 20_000,
  handOver: 3_700_000,
  idle: 15_000,
  grace: 100,
  maxIdle: 10,
  idleTime: 10_000,
  maxTransactions: 100,
  backOff: 30_000,
  maxBackOff: 300_000,
  limitMemory: 10_000,
  clock: now,
  ...settings,
})

/** The milliseconds of a monotonic clock: deadlines must not move with the time of day. */
export const now = (): number => performance.now()

/** The ms that one step may take: `timeout`, but not beyond `deadline`, and at least 1. */
export const stepTime = (timeout: number, deadline: number): number =>
  Math.max(1, Math.min(timeout, deadline - now()))
