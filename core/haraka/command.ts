// A look at a connection ahead of each of its commands, cheaper than a hook for every one of them.
import { insidesOf } from './supported'
import type { Connection, Plugin } from './types'

const DOT = Buffer.from('.\r\n')

/**
 * Calls `isRefused` ahead of each command and of the dot that ends a message. Where it answers true it has replied, and
 * the line is not read. Wraps Haraka's Connection.process_line, once for all connections.
 */
export function beforeEachCommand(plugin: Plugin, isRefused: (connection: Connection) => boolean): void {
  const { Connection } = plugin.haraka_require('connection') as { Connection: { prototype: WithLines } }
  const { connection } = insidesOf(plugin).package('haraka-constants') as {
    connection: { state: { DATA: number; DISCONNECTING: number } }
  }
  const { DATA, DISCONNECTING } = connection.state
  const { process_line } = Connection.prototype
  Connection.prototype.process_line = function (line) {
    const isText = this.state === DATA && !(line.length === DOT.length && DOT.equals(line))
    if (isText || this.state >= DISCONNECTING || !isRefused(this)) process_line.call(this, line)
  }
}

type WithLines = Connection & { state: number }
