// Haraka's count of bad commands on one connection. Its core finds most of them, where no hook runs.
import type { Connection, Plugin } from './types'

const COUNT = Symbol('errors')
type Counted = Connection & { [COUNT]?: number }

/**
 * Calls `counted` each time that Haraka counts another error, before it answers the command. An accessor takes the place
 * of Haraka's plain property, once for all connections: one on each would slow each.
 */
export function watchErrors(
  plugin: Plugin,
  counted: (connection: Connection, before: number, now: number) => void,
): void {
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
      if (now > before) counted(this, before, now)
    },
  })
}

/**
 * Drops what the client has sent and will send: no command is read any more. Haraka goes through all lines that came in
 * one packet before anybody else has a turn, and answers thousands of them.
 */
export function dropInput(connection: Connection): void {
  connection.process_line = () => undefined
}
