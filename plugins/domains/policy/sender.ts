// Who may write in our name: MAIL FROM and From: as ordered lists of named checks (RFC 2505 2.6 names the risk:
// forwarders; hence the exceptions).
import { type Check, decide } from '../../../core/checks'
import type { Decision, Rule } from '../../../core/decision'
import { domainOf } from '../../../core/mail-address'
import type { Mailbox, Party, SpfAnswer } from '../../../core/party'
import { clean } from '../../../core/text'
import type { DomainsConfig } from '../config'
import type { Domain } from '../table'

/** All that the decisions about a sender depend on. */
export interface SenderFacts {
  /** `anti_spoof` or `anti_spoof_from`. */
  action: 'reject' | 'tag' | 'off'
  /**
   * Which of our domains the address is in: none, that of MAIL FROM, for which SPF can speak, or another. MAIL FROM
   * itself is in none or in its own.
   */
  claims: 'nothing' | 'the domain of MAIL FROM' | 'another domain'
  mayRelay: boolean
  /** The client is in `spoof_allowed`. */
  spoofAllowed: boolean
  /** A logged-in user, in [never] too, wrote an address of his own. */
  own: boolean
  /** SPF's answer for MAIL FROM. */
  spf: SpfAnswer
}

/** What the list of checks answers. `defer`: cannot tell, come back later. */
export type SenderAnswer = 'accept' | 'tag' | 'refuse' | 'defer'

/** In order. The right to relay, an own address and SPF excuse; where SPF cannot tell, nobody is refused for good. */
export const SENDER_CHECKS: readonly Check<SenderFacts, SenderAnswer>[] = [
  { name: 'the check is off', ask: ({ action }) => (action === 'off' ? 'accept' : undefined) },
  { name: 'not in a domain of ours', ask: ({ claims }) => (claims === 'nothing' ? 'accept' : undefined) },
  { name: 'the right to relay', ask: ({ mayRelay }) => (mayRelay ? 'accept' : undefined) },
  { name: 'spoof_allowed', ask: ({ spoofAllowed }) => (spoofAllowed ? 'accept' : undefined) },
  { name: "a user's own address", ask: ({ own }) => (own ? 'accept' : undefined) },
  {
    name: 'an SPF pass for this domain',
    ask: ({ claims, spf }) => (spf === 'pass' && claims === 'the domain of MAIL FROM' ? 'accept' : undefined),
  },
  {
    name: 'SPF cannot tell',
    ask: ({ action, claims, spf }) => {
      const open = spf === 'cannot tell' && claims === 'the domain of MAIL FROM'
      return open && action === 'reject' ? 'defer' : undefined
    },
  },
  { name: 'everything else', ask: ({ action }) => (action === 'tag' ? 'tag' : 'refuse') },
]

/** The facts of MAIL FROM or From:. */
export function senderFacts(
  config: DomainsConfig,
  action: SenderFacts['action'],
  claims: SenderFacts['claims'],
  party: Party,
  own: boolean,
): SenderFacts {
  const spoofAllowed = config.spoofAllowed.lookup(party.ip) >= 0
  return { action, claims, mayRelay: party.mayRelay, spoofAllowed, own, spf: party.senderSpf }
}

/** Says whether a logged-in user may write as an address. */
export type Owns = (address: Mailbox) => boolean

/** MAIL FROM in a domain of ours by somebody who is none of us. Undefined: nothing against it. */
export function judgeSender(
  config: DomainsConfig,
  sender: Mailbox,
  party: Party,
  owns: Owns,
): Decision | undefined {
  const claims = claimedDomain(config, sender) ? 'the domain of MAIL FROM' : 'nothing'
  const facts = senderFacts(config, config.antiSpoof, claims, party, owns(sender))
  const answer = decide(SENDER_CHECKS, facts)
  if (answer === 'accept') return undefined
  const who = `<${sender.user}${sender.host && `@${sender.host}`}>`
  return decisionOf(answer, 'sender.forged', who, main(`anti_spoof = ${config.antiSpoof}`))
}

/** The same for all addresses of From:. An SPF pass excuses those in the domain of MAIL FROM only. */
export function judgeFrom(
  config: DomainsConfig,
  from: Mailbox[],
  party: Party,
  owns: Owns,
): Decision | undefined {
  const mailFrom = party.sender?.host ? claimedDomain(config, party.sender) : undefined
  const claimed = from.flatMap((address) => {
    const domain = claimedDomain(config, address)
    return domain ? [{ address, domain }] : []
  })
  const other = claimed.find(({ domain }) => domain !== mailFrom)
  const first = other ?? claimed[0]
  const claims = other ? 'another domain' : first ? 'the domain of MAIL FROM' : 'nothing'
  const facts = senderFacts(config, config.antiSpoofFrom, claims, party, from.every(owns))
  const answer = decide(SENDER_CHECKS, facts)
  if (answer === 'accept') return undefined
  const who = `From: ${first?.address.user}@${first?.address.host}`
  return decisionOf(answer, 'from.forged', who, main(`anti_spoof_from = ${config.antiSpoofFrom}`))
}

/** The domain of ours that an address is in; a bare <postmaster> is in the first one. */
function claimedDomain(config: DomainsConfig, { user, host }: Mailbox): Domain | undefined {
  if (host === '') return user === '' ? undefined : config.domains.first
  const name = domainOf(host)
  return name === undefined ? undefined : config.domains.find(name)
}

function decisionOf(
  answer: Exclude<SenderAnswer, 'accept'>,
  outcome: string,
  who: string,
  rule: Rule,
): Decision {
  const shown = clean(who, 200)
  const text = `${shown} is ours, and you are not: log in, or send from a host in its SPF record`
  switch (answer) {
    case 'tag':
      return { outcome: `${outcome}-tagged`, code: 250, status: '2.0.0', text, rule }
    case 'refuse':
      return { outcome, code: 550, status: '5.7.1', text, rule }
    case 'defer': {
      const unknown = `${shown} is ours, and its SPF record cannot be looked up now: try again later`
      return { outcome: `${outcome}-unknown`, code: 451, status: '4.4.3', text: unknown, rule }
    }
  }
}

const main = (key: string): Rule => ({ file: 'domains.ini', section: 'main', key })
