// Bad commands on one connection: too many of them end it.

import type { Decision } from '../../../core/decision'
import { dropInput } from '../../../core/haraka/error-count'
import { answer, record } from '../../../core/haraka/reply'
import type { Connection, Next } from '../../../core/haraka/types'
import { tooManyErrors } from '../policy/refusal'
import { runtime } from './runtime'

/** Ends the connection at the first error over the limit. `before` and `now`: Haraka's count of errors. */
export function judgeErrors(connection: Connection, before: number, now: number): void {
  if (tooManyErrors(runtime.limits.value, before)) return
  const errors = tooManyErrors(runtime.limits.value, now)
  if (!errors) return
  if (errors.code < 400) return void record(runtime.plugin, connection, errors)
  dropInput(connection)
  // After the reply to the command itself: Haraka counts the error first.
  setImmediate(() => hangUp(connection, errors))
}

function hangUp(connection: Connection, errors: Decision): void {
  const respond: Next = (_, reply) => connection.respond(errors.code, reply, () => connection.disconnect())
  answer(runtime.plugin, respond, connection, { ...errors, close: true })
}
