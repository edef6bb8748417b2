// Envelope addresses as values.
import type { Address, HarakaAddress } from './types'

/** Where @haraka/email-address keeps the address that it wrapped (its lib/legacy.js, used by Haraka 3.2). */
const WRAPPED = Symbol.for('haraka.email-address.legacy.raw')

/** The address with strings for `host` and `address`, whichever Haraka it comes from. Always the same object for one address. */
export const plain = (address: HarakaAddress): Address =>
  (address as { [WRAPPED]?: Address })[WRAPPED] ?? (address as Address)

/** Haraka 3.2 ends when it queues mail for a domain that each object of JavaScript has a property of: `constructor`. */
export const cannotBeQueued = (address: HarakaAddress): boolean =>
  plain(address) !== address && plain(address).host in {}
