// Which counters an SMTP event touches. Pure: the hooks put a plan's step to the limiter, and verdict.ts says what its
// answer means.
import type { Charge, Lease } from '../../../core/limiter/contract'
import { unlimited } from '../../../core/limiter/rate'
import type { Mailbox, Party } from '../../../core/party'
import type { LimitsConfig, What } from '../config'
import {
  type CounterOwner,
  ipOf,
  networkOfClient,
  recipientDomain,
  recipientsOf,
  sendersOf,
  userOf,
} from '../subjects'

import { type Count, chargeOf, isExempt, ownerCount, type Reason, ruled } from './owner-counts'

/** The first word of an outcome: what is refused. */
export type Event = 'connection' | 'auth' | 'message' | 'recipient'

/** A slot among concurrent connections that a step asks for. */
export interface Slot {
  lease: Lease
  reason: Reason
  most: number
}

/** Standings and slots of an answer are in the order of `counts` and `slots`. */
export interface Plan {
  event: Event
  counts: Count[]
  slots: Slot[]
  /** What the session will need next, with its amount as cost: taken in advance, if the store is asked anyway. */
  next?: (() => Charge[]) | undefined
}

/** What a usual session still needs at each event: one message of up to 64 KiB to two recipients. */
const AT_DATA: Needed[] = [['bytes', 2 ** 16]]
const AT_RCPT: Needed[] = [['recipients', 2], ['refused recipients', 1], ...AT_DATA]
const AT_MAIL: Needed[] = [['messages', 1], ...AT_RCPT]

type Needed = [what: What, amount: number]

/** What a store is asked. The hook adds `op` and `by`. */
export const stepOf = ({ counts, slots }: Plan): { charges: Charge[]; leases: Lease[] } => ({
  charges: counts.map(({ charge }) => charge),
  leases: slots.map(({ lease }) => lease),
})

/** `op: check`. `id` is the connection's lease, HOST/PID/UUID. */
export function connecting(config: LimitsConfig, party: Party, id: string): Plan {
  const clients = clientsOf(config, party)
  return {
    event: 'connection',
    counts: countAll(config, party, clients, [{ what: 'connections' }]),
    slots: clients.flatMap((who) => slotOf(config, party, who, id)),
    next: () => {
      // Whoever may relay is counted by the sender that MAIL will name.
      const senders = party.mayRelay ? [] : sendersOf(party, config.ipv6Prefix)
      return needing(config, party, [...clients, ...senders], AT_MAIL)
    },
  }
}

/** `op: check`. `size`: as the client gave it with MAIL, bytes. */
export function mailing(config: LimitsConfig, party: Party, size = 0): Plan {
  const whos = [...clientsOf(config, party), ...sendersOf(party, config.ipv6Prefix)]
  const sized: Counted[] = size > 0 ? [{ what: 'bytes', cost: size, checkOnly: true }] : []
  return {
    event: 'message',
    counts: countAll(config, party, whos, [{ what: 'messages' }, ...sized]),
    slots: [],
    next: () => needing(config, party, whos, AT_RCPT),
  }
}

/** `op: check` before the recipient is accepted, `op: refund` where something else refuses it then. */
export function addressing(config: LimitsConfig, party: Party, recipient: Mailbox): Plan {
  const whos = [
    ...clientsOf(config, party),
    ...sendersOf(party, config.ipv6Prefix),
    ...recipientsOf(recipient),
  ]
  const counts = countAll(config, party, whos, [
    { what: 'recipients' },
    { what: 'refused recipients', checkOnly: true },
  ])
  return { event: 'recipient', counts, slots: [], next: () => needing(config, party, whos, AT_DATA) }
}

/** `op: check` at the end of data. `domains`: the hosts of all accepted recipients. */
export function ending(config: LimitsConfig, party: Party, bytes: number, domains: Iterable<string>): Plan {
  const recipients = new Map<string, CounterOwner>()
  for (const host of domains) {
    const who = recipientDomain(host)
    if (host) recipients.set(who.subject, who)
  }
  const whos = [...clientsOf(config, party), ...sendersOf(party, config.ipv6Prefix), ...recipients.values()]
  return {
    event: 'message',
    counts: countAll(config, party, whos, [{ what: 'bytes', cost: bytes }]),
    slots: [],
  }
}

/** `op: charge`: recipients that were refused for good (5xx), not by a limit. */
export function refusing(config: LimitsConfig, party: Party, cost: number): Plan {
  const whos = clientsOf(config, party).slice(0, 2)
  return {
    event: 'recipient',
    counts: countAll(config, party, whos, [{ what: 'refused recipients', cost }]),
    slots: [],
  }
}

/** The client itself: its address, its network, and who it logged in as. */
export function clientsOf({ ipv6Prefix }: LimitsConfig, { ip, user }: Party): CounterOwner[] {
  return [ipOf(ip, ipv6Prefix), networkOfClient(ip), ...(user ? [userOf(user)] : [])]
}

function needing(config: LimitsConfig, party: Party, whos: CounterOwner[], needed: Needed[]): Charge[] {
  const charges: Charge[] = []
  for (const who of whos) {
    for (const [what, amount] of needed) {
      if (isExempt(config, party, what)) continue
      const charge = ownerCount(config, party, what, who).count?.charge
      if (charge?.limit.windows.length) charges.push({ ...charge, cost: amount })
    }
  }
  return charges
}

/** What is counted at an event, how much of it, and whether it is charged now or only has to have room. */
interface Counted {
  what: What
  cost?: number
  checkOnly?: boolean
}

/** A count for each thing and each one for whom it is limited, and a look at the blocks of all of them. */
function countAll(config: LimitsConfig, party: Party, whos: CounterOwner[], counted: Counted[]): Count[] {
  const counts: Count[] = []
  for (const who of whos) {
    let seen = false
    for (const { what, cost = 1, checkOnly } of counted) {
      if (isExempt(config, party, what)) continue
      const { count, isOwn } = ownerCount(config, party, what, who)
      if (!count) continue
      const isPlain = cost === 1 && !checkOnly
      counts.push(isPlain ? count : { ...count, charge: { ...count.charge, cost, checkOnly } })
      seen ||= isOwn
    }
    if (!seen) counts.push({ charge: chargeOf(who, counted[0]!.what, unlimited) })
  }
  return counts
}

/** The plan, and a look at whether another refused recipient would be too many. It refuses nobody: a message to nobody is allowed. */
export function withLook(config: LimitsConfig, party: Party, plan: Plan): Plan {
  const counts = plan.counts.slice()
  for (const { charge, reason } of refusing(config, party, 1).counts) {
    if (!reason || reason.limit.action === 'shadow') continue
    counts.push({ charge: { ...charge, checkOnly: true, shadow: true }, reason })
  }
  return { event: plan.event, counts, slots: plan.slots, next: plan.next }
}

/** More than there can be: a lease under `shadow` is taken and never refused. */
const NO_END = 2 ** 31

function slotOf(config: LimitsConfig, party: Party, who: CounterOwner, id: string): Slot[] {
  const rule = ruled(config, party, 'concurrent connections', who)
  const most = rule?.rate.most
  if (!rule || most === undefined) return []
  const { limit, key, subject } = rule
  const lease = { scope: who.scope, subject, id, limit: limit.action === 'shadow' ? NO_END : most }
  return [{ lease, reason: { limit, key }, most }]
}
