// Who may write in our name: MAIL FROM and From: as ordered lists of named checks (RFC 2505 2.6 names the risk:
// forwarders; hence the exceptions).
import { type Check, decide } from '../../../core/checks'
import type { Decision, Rule } from '../../../core/decision'
import { domainOf } from '../../../core/mail-address'
import type { Mailbox, Party, SpfAnswer } from '../../../core/party'
import { clean } from '../../../core/text'
import type { DomainsConfig } from '../config'
import { CANNOT_TELL, type Found } from '../table'
import { cannotTell } from './recipient'

/** All that the decisions about a sender depend on. */
export interface SenderFacts {
  /** `anti_spoof` or `anti_spoof_from`. */
  action: 'reject' | 'tag' | 'off'
  /**
   * Which of our domains the address is in: none, that of MAIL FROM, for which SPF can speak, or another. MAIL FROM
   * itself is in none or in its own. Where it cannot be told, SPF has not excused it.
   */
  claims: 'nothing' | 'the domain of MAIL FROM' | 'another domain' | typeof CANNOT_TELL
  mayRelay: boolean
  /** The client is in `spoof_allowed`. */
  spoofAllowed: boolean
  /** A logged-in user, in [never] too, wrote an address of his own. */
  own: boolean
  /** SPF's answer for MAIL FROM. */
  spf: SpfAnswer
}

/** What the list of checks answers. `defer`, `cannot tell`: come back later, by reason of SPF or of Redis. */
export type SenderAnswer = 'accept' | 'tag' | 'refuse' | 'defer' | typeof CANNOT_TELL | 'tag: cannot tell'

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
    name: 'whether it is ours cannot be told',
    ask: ({ action, claims }) => {
      if (claims !== CANNOT_TELL) return undefined
      return action === 'tag' ? 'tag: cannot tell' : CANNOT_TELL
    },
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
  const own = claim(config, sender)
  const claims = claimOf(own, sender, own, sender, party.senderSpf)
  const facts = senderFacts(config, config.antiSpoof, claims, party, owns(sender))
  const answer = decide(SENDER_CHECKS, facts)
  if (answer === 'accept') return undefined
  const who = `<${sender.user}${sender.host && `@${sender.host}`}>`
  return decisionOf(answer, 'sender', who, main(`anti_spoof = ${config.antiSpoof}`))
}

/** The same for all addresses of From:. An SPF pass excuses those in the domain of MAIL FROM only. */
export function judgeFrom(
  config: DomainsConfig,
  from: Mailbox[],
  party: Party,
  owns: Owns,
): Decision | undefined {
  const sender = party.sender ?? { user: '', host: '' }
  const mailFrom = sender.host ? claim(config, sender) : undefined
  const all = from.map((address) => ({
    address,
    claims: claimOf(claim(config, address), address, mailFrom, sender, party.senderSpf),
  }))
  const worst = CLAIMS.map((claims) => all.find((each) => each.claims === claims)).find(Boolean)
  const claims = worst?.claims ?? 'nothing'
  const facts = senderFacts(config, config.antiSpoofFrom, claims, party, from.every(owns))
  const answer = decide(SENDER_CHECKS, facts)
  if (answer === 'accept') return undefined
  const who = `From: ${worst?.address.user}@${worst?.address.host}`
  return decisionOf(answer, 'from', who, main(`anti_spoof_from = ${config.antiSpoofFrom}`))
}

/** The worst first: of several addresses that one counts. */
const CLAIMS: readonly SenderFacts['claims'][] = ['another domain', CANNOT_TELL, 'the domain of MAIL FROM']

/** What an address in `found` claims, where MAIL FROM is `sender` in `mailFrom`. */
function claimOf(
  found: Found,
  address: Mailbox,
  mailFrom: Found,
  sender: Mailbox,
  spf: SpfAnswer,
): SenderFacts['claims'] {
  if (found === undefined) return 'nothing'
  const isSameName = domainOf(address.host) === domainOf(sender.host)
  // An SPF pass for a name excuses whatever has this name, in whichever domain it is.
  if (found === CANNOT_TELL) return isSameName && spf === 'pass' ? 'the domain of MAIL FROM' : CANNOT_TELL
  if (found === mailFrom) return 'the domain of MAIL FROM'
  return mailFrom === CANNOT_TELL && spf !== 'no' ? CANNOT_TELL : 'another domain'
}

/** The domain of ours that an address is in; a bare <postmaster> is in the first one, or that of `postmaster =`. */
function claim({ domains, postmaster }: DomainsConfig, { user, host }: Mailbox): Found {
  if (host === '' && user === '') return undefined
  if (host === '') return domains.first ?? (postmaster && domains.find(postmaster.host))
  const name = domainOf(host)
  return name === undefined ? undefined : domains.find(name, 'an hour')
}

/** The value of the header that a decision to tag adds: `forged-sender; …`. `what`: sender or from. */
export const tagOf = ({ outcome, text }: Decision, what: 'sender' | 'from'): string =>
  `${outcome.startsWith(`${what}.forged`) ? 'forged' : 'unknown'}-${what}; ${text}`

function decisionOf(
  answer: Exclude<SenderAnswer, 'accept'>,
  what: string,
  who: string,
  rule: Rule,
): Decision {
  const shown = clean(who, 200)
  const outcome = `${what}.forged`
  const text = `${shown} is ours, and you are not: log in, or send from a host in its SPF record`
  const untold = `Whether ${shown} is ours cannot be told now`
  switch (answer) {
    case 'tag':
      return { outcome: `${outcome}-tagged`, code: 250, status: '2.0.0', text, rule }
    case 'refuse':
      return { outcome, code: 550, status: '5.7.1', text, rule }
    case CANNOT_TELL:
      return cannotTell(what, `${untold}, try again later`)
    case 'tag: cannot tell':
      return {
        ...cannotTell(what, untold),
        outcome: `${what}.domain-unknown-tagged`,
        code: 250,
        status: '2.0.0',
      }
    case 'defer': {
      const unknown = `${shown} is ours, and its SPF record cannot be looked up now: try again later`
      return { outcome: `${outcome}-unknown`, code: 451, status: '4.4.3', text: unknown, rule }
    }
  }
}

const main = (key: string): Rule => ({ file: 'domains.ini', section: 'main', key })
