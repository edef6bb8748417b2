// Hooks that are needed once in a process, whichever of our plugins are loaded.
import type { Connection, Next } from './types'

/**
 * Keeps the stock plugin delay_deny, which answers OK to a denial and replies with it later or never, from delaying
 * ours. STOP ends the `deny` hook, and Haraka replies with the denial as it was; DENY would run the hook without end.
 */
export function keepDenial(
  next: Next,
  _connection: Connection,
  params: [number, unknown, string, ...unknown[]],
): void {
  next(params[2].startsWith('relay-guard/') ? STOP : CONT)
}
