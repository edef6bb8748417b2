// Failed logins, counted so that nobody can lock out another. A network that a user logged in from within 30 days is known
// for that user. A login that fails there counts for him alone, and only there; one that fails on an unknown network
// counts for the client, and for the user on all unknown networks. So a phone with an old password does not lock out its
// office, and strangers who try passwords do not lock out the user where he works.
import { type Rate, unlimited } from '../../../core/limiter/rate'
import type { Party } from '../../../core/party'
import type { LimitsConfig } from '../config'
import { ipOf, networkOfClient, userOf } from '../subjects'
import { type Count, chargeOf, chargeUnder, ruled } from './owner-counts'
import { clientsOf, type Plan } from './plan'

const WHAT = 'failed logins'
/** Those that have failed and those that are being checked: never more than the limit of failed logins. */
const ATTEMPTS = 'login attempts'

/** Logins that succeeded are kept for 30 days; no number of them is too many. */
const REMEMBERED: Rate = { windows: [{ name: '30d', ms: 30 * 86_400_000, limit: 1_000_000_000 }] }

/** Scopes besides those of limits.ini: a user on one known network, and a user on all unknown ones. */
export const USER_NETWORK = 'user network'
export const UNKNOWN_NETWORKS = 'user elsewhere'

const userNetworkOf = (user: string, ip: string) => ({
  scope: USER_NETWORK,
  subject: `${userOf(user).subject} ${networkOfClient(ip).subject}`,
})

/** `op: dry-run`, before the password is checked: whether one more may fail, and whether the user is known here. */
export function loggingIn(config: LimitsConfig, party: Party): Plan {
  const counts = [
    ...onUnknownNetwork(config, party),
    ...onKnownNetwork(config, party),
    ...knownNetworkCheck(party),
  ]
  return { event: 'auth', counts, slots: [] }
}

/** `op: check` after that, `op: refund` unless the login fails: never more tries at once than may fail. */
export function attempting(config: LimitsConfig, party: Party, known: boolean): Plan {
  const { counts } = failedLogin(config, party, known)
  return {
    event: 'auth',
    counts: counts.flatMap(({ charge, reason }): Count[] => {
      if (!reason || charge.shadow || charge.scope === UNKNOWN_NETWORKS) return []
      // No block: nobody has failed yet.
      const { block: _, ...rest } = charge
      return [{ charge: { ...rest, what: ATTEMPTS, brief: true }, reason }]
    }),
    slots: [],
  }
}

/** `op: charge`. `known`: as the verdict on the login said. */
export function failedLogin(config: LimitsConfig, party: Party, known: boolean): Plan {
  const counts = known ? onKnownNetwork(config, party) : onUnknownNetwork(config, party)
  return { event: 'auth', counts, slots: [] }
}

/** `op: charge`, after each login that succeeded: from now on this network is known for that user. */
export const loggedIn = (party: Party & { user: string }): Plan => ({
  event: 'auth',
  counts: [{ charge: chargeOf(userNetworkOf(party.user, party.ip), 'logins', REMEMBERED) }],
  slots: [],
})

function onUnknownNetwork(config: LimitsConfig, party: Party): Count[] {
  return clientsOf(config, party).flatMap((who): Count[] => {
    const rule = ruled(config, party, WHAT, who)
    const blockCheck: Count = { charge: chargeOf(who, WHAT, unlimited) }
    if (!rule) return [blockCheck]
    const { limit, key, rate, subject } = rule
    const count: Count = {
      charge: chargeUnder(limit, rate, { scope: who.scope, subject }),
      reason: { limit, key },
      when: 'unknown',
    }
    if (who.scope !== 'user' || limit.block === 0)
      return subject === who.subject ? [count] : [count, blockCheck]
    // A block of the user would hold on known networks, too, and for mail: it is set on the user on unknown ones.
    const { block, ...charge } = count.charge
    return [
      { ...count, charge },
      { ...count, charge: { ...count.charge, scope: UNKNOWN_NETWORKS } },
    ]
  })
}

/** By the limit per user; without one, by that of the address: no known network is without a limit. */
function onKnownNetwork(config: LimitsConfig, party: Party): Count[] {
  if (!party.user) return []
  const whos = [userOf(party.user), ipOf(party.ip, config.ipv6Prefix), networkOfClient(party.ip)]
  const rule = whos.map((who) => ruled(config, party, WHAT, who)).find((found) => found !== undefined)
  if (!rule) return []
  const { limit, key, rate } = rule
  const charge = chargeUnder(limit, rate, userNetworkOf(party.user, party.ip))
  return [{ charge, reason: { limit, key }, when: 'known' }]
}

function knownNetworkCheck({ user, ip }: Party): Count[] {
  if (!user) return []
  return [
    {
      charge: { ...chargeOf(userNetworkOf(user, ip), 'logins', REMEMBERED), cost: 0 },
      when: 'known-network check',
    },
  ]
}
