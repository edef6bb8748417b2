// A second, naive opinion on who may send what to whom, written from the contract alone: no table, no cache, no parser
// of ours. If it and a real Haraka disagree, one of them is wrong.

export interface ModelClient {
  /** Of the connection's address. */
  never: boolean
  relay: boolean
  spoofAllowed: boolean
  /** The login's own addresses and @domains, lower-case; undefined: not logged in. */
  senders?: string[]
}

/** A local part and a domain, both as a client may write them; no domain: as in <postmaster>. */
export interface ModelAddress {
  local: string
  domain: string
  /** A leading `@a,@b:`. */
  route: string
}

export interface ModelWorld {
  /** Our domains, and whether what is under them is ours too. */
  domains: Record<string, boolean>
  /** A mailbox that no next hop knows contains this. */
  unknown: string
  /** Domains that take `%` and `!`. */
  gateways?: string[]
  /** The only mailboxes of a domain, lower-case local parts. */
  lists?: Record<string, string[]>
}

export interface Verdict {
  code: number
  status: string
}

const accepted: Verdict = { code: 250, status: '' }
const denied: Verdict = { code: 550, status: '5.7.1' }
const noMailbox: Verdict = { code: 550, status: '5.1.1' }
const noDomain: Verdict = { code: 550, status: '5.1.3' }

/** Lower-case and without the quotes that a local part does not need. */
const plain = (local: string) => local.replace(/^"(.*)"$/s, '$1').toLowerCase()
const withoutTag = (local: string) => local.replace(/\+.*$/s, '')

const isOurs = (world: ModelWorld, domain: string): boolean =>
  Object.entries(world.domains).some(
    ([name, under]) => domain.toLowerCase() === name || (under && domain.toLowerCase().endsWith(`.${name}`)),
  )

const mayRelay = (client: ModelClient) => !client.never && (client.relay || client.senders !== undefined)

/** May this login use this MAIL FROM (`sender = address`)? */
function owns(senders: string[], { local, domain }: ModelAddress): boolean {
  const names = [plain(local), withoutTag(plain(local))].map((name) => `${name}@${domain.toLowerCase()}`)
  return [...names, `@${domain.toLowerCase()}`].some((name) => senders.includes(name))
}

/** An address of another mail system in the shape of one of ours. */
const encapsulated = (local: string) => /^imcea/.test(plain(local))

/** A local part that asks whoever gets it to send it on; a gateway reads `%`, `!` and names of a directory itself. */
function asksForRouting(world: ModelWorld, { local, route, domain }: ModelAddress): boolean {
  const gateway = world.gateways?.includes(domain.toLowerCase()) ?? false
  if (route !== '' || /[@,]/.test(plain(local))) return true
  if (gateway) return encapsulated(local) && !directoryName(local)
  return encapsulated(local) || /[%!]/.test(plain(local))
}

const directoryName = (local: string) => /^imceaex-/.test(plain(local)) && !/[@%!]|\+40/.test(plain(local))

/** Not in the list of its domain. */
function unlisted(world: ModelWorld, { local, domain }: ModelAddress): boolean {
  const list = world.lists?.[domain.toLowerCase()]
  const names = [plain(local), withoutTag(plain(local))]
  return list !== undefined && !['postmaster', ...list].some((name) => names.includes(name))
}

/** What a sender is answered. Null senders are always fine. */
function senderVerdict(world: ModelWorld, client: ModelClient, from: ModelAddress | null): Verdict {
  if (from === null) return accepted
  if (client.senders) return owns(client.senders, from) ? accepted : denied
  if (mayRelay(client) || client.spoofAllowed) return accepted
  return isOurs(world, from.domain) ? denied : accepted
}

function recipientVerdict(world: ModelWorld, client: ModelClient, to: ModelAddress): Verdict {
  if (to.domain === '') return plain(to.local) === 'postmaster' ? accepted : noDomain
  if (to.route !== '') return denied
  const ours = isOurs(world, to.domain)
  const gateway = world.gateways?.includes(to.domain.toLowerCase()) ?? false
  const hidden = encapsulated(to.local) && !(gateway && directoryName(to.local))
  if (mayRelay(client) && !ours) return accepted
  if (mayRelay(client) && hidden) return denied
  if (!mayRelay(client) && (!ours || asksForRouting(world, to))) return denied
  if (unlisted(world, to)) return noMailbox
  if (mayRelay(client)) return accepted
  return plain(to.local).includes(world.unknown) ? noMailbox : accepted
}

/** The first refusal that MAIL and RCPT of this triple get, or 250. */
export function verdict(
  world: ModelWorld,
  client: ModelClient,
  from: ModelAddress | null,
  to: ModelAddress,
): Verdict {
  const sender = senderVerdict(world, client, from)
  return sender.code === 250 ? recipientVerdict(world, client, to) : sender
}

export const written = ({ local, domain, route }: ModelAddress): string =>
  `<${route}${local}${domain && `@${domain}`}>`
