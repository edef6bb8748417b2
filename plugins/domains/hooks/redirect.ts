// <postmaster> without a domain goes to the address that domains.ini names.
import type { HarakaAddress, Transaction } from '../../../core/haraka/types'
import type { Mailbox } from '../../../core/party'

/** Puts the address `to` in the place of the recipient at this index. Returns it as core holds it. */
export function redirect({ rcpt_to }: Transaction, at: number, to: Mailbox): HarakaAddress {
  const Constructor = rcpt_to[at]!.constructor as new (user: string, host: string) => HarakaAddress
  const address = new Constructor(to.user, to.host)
  rcpt_to[at] = address
  return address
}
