// What this plugin knows of one connection.

import type { Connection } from '../../../core/haraka/types'
import type { CheckResult } from '../../../core/limiter'
import type { Plan } from '../policy/plan'
import type { Refusal } from '../policy/refusal'
import type { BlockOrder } from '../policy/verdict'
import type { PendingLogin } from './pending-logins'

/** What the hooks keep of one connection; it goes when the connection goes. */
export interface Session {
  /** The client that was counted at connect; XCLIENT and PROXY make it another. */
  counted: string
  /** The id of its leases. */
  lease: string
  /** What the limiter was asked at lookup_rdns. */
  connecting?: { plan: Plan; result: Promise<CheckResult> }
  /** Who tries to log in, in the one form of a name. */
  attempt?: string
  /** The login whose password was let through last. */
  login?: PendingLogin
  /** The transaction whose message was counted, and the one whose bytes were. */
  message: string | undefined
  weighed: string | undefined
  /** A recipient that was charged, and how many were accepted before it. */
  pending?: { verdict: CheckResult; accepted: number }
  /** The bytes that were charged at the end of data. */
  bytes?: CheckResult
  /** Recipients refused for good that were counted, and those that a limit refused. */
  refused: number
  refusedByLimit: number
  /** Too many recipients were refused: so are all others until then (ms of the monotonic clock), without asking. */
  shut?: { refusal: Refusal; blocks: BlockOrder[]; since: number; until: number }
}

// On Haraka's own object, under a name that only this file has: the collector walks weak collections each time.
const SESSION = Symbol('relay-guard limits')

/** The state of a connection, made at the first call. */
export function sessionOf(connection: Connection): Session {
  const holder: Connection & { [SESSION]?: Session } = connection
  holder[SESSION] ??= {
    counted: '',
    lease: '',
    message: undefined,
    weighed: undefined,
    refused: 0,
    refusedByLimit: 0,
  }
  return holder[SESSION]
}
