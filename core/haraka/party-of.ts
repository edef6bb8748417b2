// The only place that makes a Party out of Haraka's Connection.
import type { Party } from '../party'
import { registry } from '../registry'
import { plain } from './address'
import { classificationOf, mayRelay, relayRuleOf, userOf } from './relaying'
import { senderSpf } from './spf-result'
import type { Connection } from './types'

/** The one form of a login name: NAME@realm where the auth plugin is loaded, else lower case. */
export const identityOf = (user: string): string => registry.identity?.(user) ?? user.toLowerCase()

/** The client of a connection, told from others; XCLIENT and PROXY make it another. */
export const clientName = ({ uuid, remote }: Connection): string => `${uuid} ${remote.ip} ${remote.port}`

/** Who is at the other end now. Made anew at each call: a login, XCLIENT, a reload or SPF may have changed it. */
export function partyOf(connection: Connection): Party {
  const { transaction } = connection
  const user = userOf(connection)
  const relays = mayRelay(connection)
  const party: Party = {
    ip: connection.remote.ip,
    tls: connection.tls.enabled,
    classification: classificationOf(connection),
    mayRelay: relays,
    senderSpf: senderSpf(connection),
  }
  if (relays) party.relayRule = relayRuleOf(connection)
  if (user !== undefined) party.user = identityOf(user)
  if (transaction) party.sender = plain(transaction.mail_from)
  return party
}
