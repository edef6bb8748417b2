// The slice of Haraka that we use, declared by us: Haraka ships no types. Checked against Haraka 3.3.4.

import type { Readable, Writable } from 'node:stream'

declare global {
  /** Haraka's return codes. It puts them on the global object when it loads a plugin package. */
  var CONT: number, STOP: number, OK: number, NEXT_HOOK: number
  var DENY: number, DENYSOFT: number, DENYDISCONNECT: number, DENYSOFTDISCONNECT: number
}

/** A hook's callback: a return code and what the client is told. */
export type Next = (code?: number, message?: unknown) => void

/** An envelope address as `@haraka/email-address` parses it. `host` is lower-case ASCII, '' for <postmaster>. */
export interface Address {
  /** The local part as the client wrote it, quotes included. '' for the null sender. */
  user: string
  host: string
  /** The whole path as the client wrote it, source route included. */
  original: string
  is_utf8?: boolean
  address: string
  format(use_punycode?: boolean): string
}

/**
 * An envelope address as core holds it. Haraka 3.2 wraps it for plugins of old: its `host` and `address` are functions that
 * pass for strings, but not with `===`. `plain` (address.ts) gives the values.
 */
export interface HarakaAddress {
  readonly user: string
  readonly original: string
  readonly host: unknown
  readonly address: unknown
}

/** haraka-results: what plugins found, on a connection or a transaction. */
export interface Results {
  add(plugin: { name: string }, result: Record<string, unknown>): void
  get(plugin: string | { name: string }): Record<string, unknown> | undefined
}

type Log = (...parts: unknown[]) => void

/** The header of a message, as haraka-email-message reads it. */
export interface Header {
  /** The fields as they are, also those that Haraka cannot read. */
  lines(): string[]
}

/** How `MessageStream.pipe` gives the message; without any, CRLF at line ends and no dot stuffed. */
export interface PipeOptions {
  line_endings?: string
  /** False: the body as it is kept, dots stuffed. */
  dot_stuffed?: boolean
  /** The older name, with the opposite sense. */
  dot_stuffing?: boolean
  ending_dot?: boolean
  skip_headers?: boolean
  clamd_style?: boolean
  end?: boolean
}

interface MessageStream {
  /** The message is, or is being, written to a spool file. */
  spooling: boolean
  once(event: 'error', heard: (error: Error) => void): void
  /** The header fields that are written in place of those that came: the array of `Transaction.header`. */
  headers: string[]
  pipe<T extends Writable>(to: T, options?: PipeOptions): T
}

/** One mail transaction (Haraka's transaction.js). */
export interface Transaction {
  uuid: string
  mail_from: HarakaAddress
  rcpt_to: HarakaAddress[]
  notes: Record<string, unknown> & { skip_plugins: string[] }
  results: Results
  header: Header
  rcpt_count: { accept: number }
  data_bytes: number
  /** How the header's octets become text: `utf8`, or `binary` after HELO. */
  encoding: string
  /** What came of the message. */
  msg_status?: 'accepted' | 'deferred' | 'rejected'
  message_stream: MessageStream
  /** The lines of the header so far, at most as many as connection.ini allows. */
  header_lines: string[]
  /** Other than 0 from the end of the header on. */
  header_pos: number
  /** Called with each line of the message, CRLF and stuffed dots included; with text for core's own Received field. */
  add_data(line: Buffer | string): void
  /** Called after the last line. */
  end_data(done: () => void): void
  add_header(name: string, value: string): void
  add_leading_header(name: string, value: string): void
  remove_header(name: string): void
}

/** One client's connection (Haraka's connection.js). */
export interface Connection {
  uuid: string
  tran_count: number
  remote: { ip: string; port: number; host: string | null; closed: boolean; is_private: boolean }
  local: { ip: string; port: number; host: string }
  hello: { host: string | null; verb: string | null }
  tls: { enabled: boolean }
  notes: Record<string, unknown> & { auth_user?: string; auth_fails?: number; authenticating?: boolean }
  results: Results
  transaction: Transaction | null
  capabilities: string[] | null
  relaying: boolean
  authheader?: string | undefined
  /** How the octets of a command become text. */
  encoding: string
  errors: number
  rcpt_count: { accept: number; tempfail: number; reject: number }
  proxy: { allowed: boolean }
  client: { remoteAddress?: string; localAddress?: string; localPort?: number; setTimeout?(ms: number): void }
  /** Adds to the Authentication-Results of the mail that follows. */
  auth_results(message: string): void
  respond(code: number, message: unknown, done?: () => void): void
  process_line(line: Buffer): void
  reset_transaction(done?: () => void): void
  disconnect(): void
  loginfo: Log
  lognotice: Log
  logwarn: Log
  logerror: Log
  logcrit: Log
}

/** A message in Haraka's outbound queue (its HMailItem). */
export interface QueuedMail {
  todo: {
    uuid?: string
    domain: string
    mail_from: HarakaAddress
    rcpt_to: HarakaAddress[]
    notes: Record<string, unknown>
  }
  /** One for each part that still has to be dealt with; `discard` at none removes the queue file. */
  refcount: number
  /** Called with the hosts to try: the prototype's; set on one item, our own client delivers. */
  found_mx?(hosts: unknown): Promise<void>
  /** The message as in the queue file, dots stuffed. */
  data_stream(): Readable
  split_to_new_recipients(recipients: HarakaAddress[], why: string, done: (part: QueuedMail) => void): void
  temp_fail(why: string): void
  /** After the hooks at `temp_fail`: puts the queue file back, to be tried again after `delay` seconds. */
  deferred_respond(code: number, message: string, params: { delay: number; err: string }): Promise<void>
  bounce(why: string): void
  /** Makes the lines of a DSN. On the item itself it may be another: core calls it to send one. */
  populate_bounce_message(
    from: HarakaAddress,
    to: HarakaAddress,
    reason: Error,
    done: (failure: unknown, lines: string[]) => void,
  ): void
  discard(): void
  delivered(
    ip: string,
    port: number,
    protocol: string,
    host: string,
    response: string,
    ok: HarakaAddress[],
    later: HarakaAddress[],
    never: HarakaAddress[],
    secured: boolean,
    authenticated: boolean,
  ): void
  lognotice: Log
  logerror: Log
}

/** Haraka's outbound queue (outbound/index.js). */
export interface Outbound {
  /** `message`: text, or a DSN of ours (disk-writes.ts). */
  send_trans_email(transaction: Transaction, done: (code: number, message?: string | object) => void): void
  send_email(
    from: HarakaAddress,
    to: HarakaAddress,
    contents: string,
    done: (code: number, message?: unknown) => void,
    options: { origin: QueuedMail },
  ): void
}

/** A plugin as Haraka hands it to `register` and to hooks as `this`. */
export interface Plugin {
  name: string
  /** Seconds that Haraka waits for one hook of this plugin before it answers DENYSOFT; 0: for ever. */
  timeout: number
  config: { get(name: string, ...rest: unknown[]): unknown }
  /** One of Haraka's own files, by its path without `.js`. Throws where there is none. */
  haraka_require(name: string): unknown
  register_hook(hook: string, method: string, priority?: number): void
  loginfo: Log
  lognotice: Log
  logwarn: Log
  logerror: Log
  logcrit: Log
}

/** What a running Haraka is made of. */
export interface HarakaInsides {
  plugin: Plugin
  /** One of its files, by its path without `.js`. Throws where there is none. */
  file(name: string): unknown
  /** One of the packages that it depends on, in its own copy. Throws where it has none. */
  package(name: string): unknown
}
