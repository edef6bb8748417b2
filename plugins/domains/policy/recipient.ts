// The relay decision for one recipient by itself, as an ordered list of named checks over its features.
import { type Check, decide } from '../../../core/checks'
import type { Decision, Rule } from '../../../core/decision'
import { domainOf, unquoted, withoutTag } from '../../../core/mail-address'
import type { Mailbox, Party } from '../../../core/party'
import { clean } from '../../../core/text'
import type { DomainsConfig } from '../config'
import { CANNOT_TELL, type Domain } from '../table'
import { type AddressFeatures, featuresOf, type Path } from './address-features'

const FILE = 'domains.ini'

/** All that the relay decision depends on. */
export interface RecipientFacts extends AddressFeatures {
  /** The client may send mail to domains that are not ours. */
  mayRelay: boolean
  /** The client is in [never] (acl.ini): it changes the reason, never the answer. */
  never: boolean
  /** `routing_characters = allow` in the recipient's domain (an X.400 gateway). */
  routingAllowed: boolean
  /** The recipient is in the domain's list, or the domain has none. */
  listed: boolean
  /** There is an address where <postmaster> goes, in a domain of ours. */
  postmasterServed: boolean | typeof CANNOT_TELL
}

/** What the list of checks answers. */
export type RecipientAnswer =
  | 'accept: postmaster'
  | 'accept: ours'
  | 'accept: relayed'
  | 'refuse: no postmaster'
  | 'refuse: no domain'
  | 'refuse: a source route'
  | 'refuse: an encapsulated address'
  | 'refuse: a domain literal'
  | 'refuse: routing characters'
  | 'refuse: not listed'
  | 'refuse: never'
  | 'refuse: not ours'
  | 'defer: cannot tell'

const isOurs = ({ domain }: AddressFeatures): boolean => domain === 'ours' || domain === 'under ours'

/**
 * In order. For clients that may relay `%` and the like are their own affair, but a source route is not carried on, and
 * an address hidden in one of our domains is opened by nobody.
 */
export const RECIPIENT_CHECKS: readonly Check<RecipientFacts, RecipientAnswer>[] = [
  {
    name: '<postmaster> without a domain, which every server takes (RFC 5321 4.5.1)',
    ask: ({ domain, local, postmasterServed }) => {
      if (domain !== 'none' || local !== 'postmaster') return undefined
      if (postmasterServed === CANNOT_TELL) return 'defer: cannot tell'
      return postmasterServed ? 'accept: postmaster' : 'refuse: no postmaster'
    },
  },
  {
    name: 'no domain',
    ask: ({ domain }) => (domain === 'none' ? 'refuse: no domain' : undefined),
  },
  {
    name: 'a source route',
    ask: ({ sourceRoute }) => (sourceRoute ? 'refuse: a source route' : undefined),
  },
  {
    name: 'whether it is ours cannot be told',
    ask: ({ domain }) => (domain === CANNOT_TELL ? 'defer: cannot tell' : undefined),
  },
  {
    name: 'an encapsulated address',
    ask: (facts) => {
      if (facts.encapsulated === 'no' || (facts.mayRelay && !isOurs(facts))) return undefined
      if (facts.encapsulated === 'directory name' && facts.routingAllowed) return undefined
      return 'refuse: an encapsulated address'
    },
  },
  {
    name: 'a domain literal',
    ask: ({ domain, mayRelay }) =>
      domain === 'literal' && !mayRelay ? 'refuse: a domain literal' : undefined,
  },
  {
    name: 'a second address or routing characters in the local part',
    ask: ({ innerAddress, routingCharacters, routingAllowed, mayRelay }) => {
      if (mayRelay || !(innerAddress || (routingCharacters && !routingAllowed))) return undefined
      return 'refuse: routing characters'
    },
  },
  {
    name: 'a recipient that is not listed',
    ask: (facts) =>
      isOurs(facts) && !facts.listed && facts.local !== 'postmaster' ? 'refuse: not listed' : undefined,
  },
  { name: 'one of our domains', ask: (facts) => (isOurs(facts) ? 'accept: ours' : undefined) },
  { name: 'the right to relay', ask: ({ mayRelay }) => (mayRelay ? 'accept: relayed' : undefined) },
  { name: '[never]', ask: ({ never }) => (never ? 'refuse: never' : undefined) },
  { name: 'everything else', ask: () => 'refuse: not ours' },
]

/** A recipient that is let through: to one of our domains, or relayed. */
interface Accepted {
  domain?: Domain
  decision: Decision
  /** <postmaster> without a domain goes to this address. */
  instead?: Mailbox
}

/** The decision about a recipient: accepted, with what follows from it, or refused. */
export type RecipientVerdict =
  | { accepted: Accepted; refused?: never }
  | { refused: Decision; accepted?: never }

/** The facts of one recipient, and the domain of ours that it is in, if it is. */
export function recipientFacts(
  config: DomainsConfig,
  address: Path,
  { mayRelay, classification }: Pick<Party, 'mayRelay' | 'classification'>,
): { facts: RecipientFacts; domain: Domain | undefined } {
  const { features, domain } = featuresOf(address, config.domains)
  const facts = {
    ...features,
    mayRelay,
    never: classification.class === 'never',
    routingAllowed: domain?.routingCharacters === 'allow',
    listed: !domain?.recipients || isListed(domain.recipients, address),
    postmasterServed: isPostmasterServed(config),
  }
  return { facts, domain }
}

/** Its domain may be one in Redis. */
function isPostmasterServed({ postmaster, domains }: DomainsConfig): RecipientFacts['postmasterServed'] {
  const found = postmaster && domains.find(postmaster.host)
  return found === CANNOT_TELL ? found : found !== undefined
}

/** The relay decision for one recipient by itself. */
export function judgeRecipient(config: DomainsConfig, address: Path, party: Party): RecipientVerdict {
  const { facts, domain } = recipientFacts(config, address, party)
  const answer = decide(RECIPIENT_CHECKS, facts)
  const shown = clean(`<${address.user}@${address.host}>`, 200)
  const refuse = (outcome: string, status: string, text: string, rule: Rule): RecipientVerdict => ({
    refused: { outcome: `recipient.${outcome}`, code: 550, status, text, rule },
  })
  switch (answer) {
    case 'accept: postmaster':
      return postmaster(config)
    case 'accept: ours': {
      const rule = ruleOf(domain!, domain!.delivery === 'plugin' ? 'delivery = plugin' : 'next_hop')
      return { accepted: { domain: domain!, decision: accept('ours', `${shown} is ours`, rule) } }
    }
    case 'accept: relayed':
      return { accepted: { decision: accept('relayed', `${shown} is relayed`, party.relayRule!) } }
    case 'defer: cannot tell': {
      const text = `Whether ${shown} is ours cannot be told now, try again later`
      return { refused: cannotTell('recipient', text) }
    }
    case 'refuse: no postmaster':
      return refuse(
        'no-domain',
        '5.1.1',
        'No domain is served here, so there is no postmaster',
        main('postmaster'),
      )
    case 'refuse: no domain':
      return refuse('no-domain', '5.1.3', 'An address needs a domain', main('postmaster'))
    case 'refuse: not listed':
      return refuse('unknown', '5.1.1', `${shown} is not known here`, ruleOf(domain!, 'recipients'))
    case 'refuse: never': {
      const text = `Relaying to ${shown} denied: this client may never relay`
      return refuse('relay-denied', '5.7.1', text, party.classification.rule!)
    }
    case 'refuse: not ours': {
      const section = clean(domainOf(address.host) ?? address.host, 100)
      const rule = { file: FILE, section, key: 'is not there' }
      return refuse('relay-denied', '5.7.1', `Relaying to ${shown} denied`, rule)
    }
    default: {
      const trick = answer.slice('refuse: '.length)
      const rule = domain ? ruleOf(domain, 'routing_characters') : main('routing_characters')
      return refuse('routing', '5.7.1', `${shown} asks for onward routing (${trick})`, rule)
    }
  }
}

/** What is answered while Redis cannot be asked, or what it holds cannot be read. `what`: the outcome's first half. */
export const cannotTell = (what: string, text: string): Decision => ({
  outcome: `${what}.domain-unknown`,
  code: 451,
  status: '4.3.0',
  text,
  rule: main('redis = true'),
})

/** A line of a domain's section. */
export const ruleOf = ({ file, section }: Domain, key: string): Rule => ({ file, section, key })

const main = (key: string): Rule => ({ file: FILE, section: 'main', key })

const accept = (outcome: string, text: string, rule: Rule): Decision => ({
  outcome: `recipient.${outcome}`,
  code: 250,
  status: '2.1.5',
  text,
  rule,
})

function postmaster({ postmaster, domains }: DomainsConfig): RecipientVerdict {
  const { user, host } = postmaster!
  const decision = accept('ours', `<postmaster> is ${user}@${host}`, main('postmaster'))
  const domain = domains.find(host)
  const isOurs = domain && domain !== CANNOT_TELL
  return { accepted: { decision, instead: { user, host }, ...(isOurs && { domain }) } }
}

function isListed(recipients: Set<string>, { user, host }: Mailbox): boolean {
  const local = unquoted(user).toLowerCase()
  const domain = domainOf(host)
  return recipients.has(`${local}@${domain}`) || recipients.has(`${withoutTag(local)}@${domain}`)
}
