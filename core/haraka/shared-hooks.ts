// What each plugin of the bundle needs, and what is needed once in a process: the first one that loads brings it.
import { refuseEarly } from './early-refusal'
import { takeOverRelaying } from './relaying'
import type { Connection, Next, Plugin } from './types'

/**
 * Keeps delay_deny, which answers OK to a denial and speaks it later or never, from denials of ours. STOP ends the
 * `deny` hook, and Haraka then speaks the denial as it was; DENY here would run the hook again, without end.
 */
function deny_own(
  next: Next,
  _connection: Connection,
  params: [number, unknown, string, ...unknown[]],
): void {
  next(params[2].startsWith('relay-guard/') ? STOP : CONT)
}

let brought = false

export function registerCommon(plugin: Plugin): void {
  if (brought) return
  brought = true
  takeOverRelaying(plugin)
  Object.assign(plugin, { deny_own, stand_at_door: refuseEarly })
  plugin.register_hook('deny', 'deny_own', -100)
  plugin.register_hook('init_master', 'stand_at_door')
  plugin.register_hook('init_child', 'stand_at_door')
}
