// Keeps delay_deny, which answers OK to a denial and speaks it later or never, from denials of ours.
import type { Connection, Next } from './haraka'

/**
 * The `deny` hook at priority -100. STOP ends the hook, and Haraka then speaks the denial as it was; DENY here would
 * run the hook again, without end.
 */
export function denyOwn(
  next: Next,
  _connection: Connection,
  params: [number, unknown, string, ...unknown[]],
): void {
  next(params[2].startsWith('relay-guard/') ? STOP : CONT)
}
