// What every plugin of the bundle needs once in a process: the first one that loads registers it.
import { type HeaderParser, setHeaderParser } from '../header-address'
import { refuseEarly } from './early-refusal'
import { takeOverRelaying } from './relaying'
import { insidesOf, requireSupported } from './supported'
import type { Connection, Next, Plugin } from './types'

/**
 * Keeps the stock plugin delay_deny, which answers OK to a denial and replies with it later or never, from delaying
 * ours. STOP ends the `deny` hook, and Haraka replies with the denial as it was; DENY would run the hook without end.
 */
function deny_own(
  next: Next,
  _connection: Connection,
  params: [number, unknown, string, ...unknown[]],
): void {
  next(params[2].startsWith('relay-guard/') ? STOP : CONT)
}

let isRegistered = false

/**
 * Comes first in each plugin's `register`. Throws Error, with one sentence, where this Haraka is not one that we
 * support: nothing of ours has been registered then.
 */
export function registerCommon(plugin: Plugin): void {
  if (isRegistered) return
  requireSupported(plugin)
  isRegistered = true
  const { parseHeader } = insidesOf(plugin).package('@haraka/email-address') as { parseHeader: HeaderParser }
  setHeaderParser(parseHeader)
  takeOverRelaying(plugin)
  Object.assign(plugin, { deny_own, refuse_early: refuseEarly })
  plugin.register_hook('deny', 'deny_own', -100)
  plugin.register_hook('init_master', 'refuse_early')
  plugin.register_hook('init_child', 'refuse_early')
}
