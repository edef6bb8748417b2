// Haraka's count of bad commands on one connection. Most are found by its core, where no hook runs.

import type { Decision } from '../../../core/decision'
import { answer, record } from '../../../core/haraka/reply'
import type { Connection, Next, Plugin } from '../../../core/haraka/types'
import { tooManyErrors } from '../policy/verdict'
import { runtime } from './runtime'

const COUNT = Symbol('errors')
type Counted = Connection & { [COUNT]?: number }

/** Puts an accessor in the place of Haraka's plain property, once for all connections: one on each would slow each. */
export function watchErrors(plugin: Plugin): void {
  const { Connection } = plugin.haraka_require('connection') as { Connection: { prototype: Connection } }
  Object.defineProperty(Connection.prototype, 'errors', {
    configurable: true,
    enumerable: true,
    get(this: Counted): number {
      return this[COUNT] ?? 0
    },
    set(this: Counted, now: number) {
      const before = this[COUNT] ?? 0
      this[COUNT] = now
      if (now > before) judgeErrors(this, before, now)
    },
  })
}

function judgeErrors(connection: Connection, before: number, now: number): void {
  if (tooManyErrors(runtime.limits.value, before)) return
  const errors = tooManyErrors(runtime.limits.value, now)
  // After the reply to the command itself: Haraka counts the error first.
  if (errors) setImmediate(() => hangUp(connection, errors))
}

function hangUp(connection: Connection, errors: Decision): void {
  const respond: Next = (_, said) => connection.respond(errors.code, said, () => connection.disconnect())
  if (errors.code < 400) record(runtime.plugin, connection, errors)
  else answer(runtime.plugin, respond, connection, { ...errors, close: true })
}
