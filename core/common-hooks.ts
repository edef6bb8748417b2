// Hooks that each plugin of the bundle needs, and that need to run once: the first one that loads brings them.
import type { Connection, Next, Plugin } from './haraka'
import { guardConnection, guardTransaction } from './rights'

const handlers = {
  /** Before other plugins see the connection. */
  take_over(this: Plugin, next: Next, connection: Connection): void {
    guardConnection(this, connection)
    next()
  },

  take_over_transaction(this: Plugin, next: Next, connection: Connection): void {
    guardTransaction(this, connection)
    next()
  },

  /**
   * Keeps delay_deny, which answers OK to a denial and speaks it later or never, from denials of ours. STOP ends the
   * `deny` hook, and Haraka then speaks the denial as it was; DENY here would run the hook again, without end.
   */
  deny_own(next: Next, _connection: Connection, params: [number, unknown, string, ...unknown[]]): void {
    next(params[2].startsWith('relay-guard/') ? STOP : CONT)
  },
}

let brought = false

export function registerCommon(plugin: Plugin): void {
  if (brought) return
  brought = true
  Object.assign(plugin, handlers)
  plugin.register_hook('connect_init', 'take_over', -100)
  plugin.register_hook('mail', 'take_over_transaction', -100)
  plugin.register_hook('deny', 'deny_own', -100)
}
