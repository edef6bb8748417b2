// The decisions about sender and recipient, as ordered lists of named checks.

import type { Decision, Rule } from '../../../core/decision'
import { domainOf, unquoted } from '../../../core/mail-address'
import { clean } from '../../../core/text'
import type { DomainsConfig } from '../config'
import type { Domain } from '../table'
import { type Envelope, wrapping } from './onward-routing'

const FILE = 'domains.ini'

const main = (key: string): Rule => ({ file: FILE, section: 'main', key })

export const ruleOf = ({ file, section }: Domain, key: string): Rule => ({ file, section, key })

/** A recipient that is let through: to one of our domains, or relayed. */
interface Accepted {
  domain?: Domain
  decision: Decision
  /** <postmaster> without a domain goes to this address. */
  instead?: { user: string; host: string }
}

export type Verdict = { accepted: Accepted; refused?: never } | { refused: Decision; accepted?: never }

/** What the client may do besides writing to our domains, and which line says so. */
export interface Right {
  relay?: Rule
  /** The entry in [never] that keeps the client from it. */
  never?: Rule
}

/** The relay decision for one recipient by itself. */
export function judgeRecipient(config: DomainsConfig, address: Envelope, { relay, never }: Right): Verdict {
  if (address.host === '') return postmaster(config, address)
  const host = domainOf(address.host)
  const domain = host === undefined ? undefined : config.domains.find(host)
  const shown = clean(`<${address.user}@${address.host}>`, 200)
  const refuse = (outcome: string, status: string, text: string, rule: Rule): Verdict => ({
    refused: { outcome, code: 550, status, text, rule },
  })

  const trick = wrapping(address, {
    trusted: relay !== undefined,
    ours: domain !== undefined,
    allow: domain?.routingCharacters === 'allow',
  })
  if (trick) {
    const rule = domain ? ruleOf(domain, 'routing_characters') : main('routing_characters')
    return refuse('recipient.routing', '5.7.1', `${shown} asks for onward routing (${trick})`, rule)
  }
  if (domain) {
    if (domain.recipients && !isListed(domain.recipients, address, host!)) {
      return refuse('recipient.unknown', '5.1.1', `${shown} is not known here`, ruleOf(domain, 'recipients'))
    }
    const rule = ruleOf(domain, domain.delivery === 'plugin' ? 'delivery = plugin' : 'next_hop')
    return { accepted: { domain, decision: accept('recipient.ours', '2.1.5', `${shown} is ours`, rule) } }
  }
  if (relay) {
    return { accepted: { decision: accept('recipient.relayed', '2.1.5', `${shown} is relayed`, relay) } }
  }
  if (never)
    return refuse(
      'recipient.relay-denied',
      '5.7.1',
      `Relaying to ${shown} denied: this client may never relay`,
      never,
    )
  return refuse('recipient.relay-denied', '5.7.1', `Relaying to ${shown} denied`, {
    file: FILE,
    section: clean(host ?? address.host, 100),
    key: 'is not there',
  })
}

const accept = (outcome: string, status: string, text: string, rule: Rule): Decision => ({
  outcome,
  code: 250,
  status,
  text,
  rule,
})

/** <postmaster> is taken by every server (RFC 5321 4.5.1); any other address needs a domain. */
function postmaster(config: DomainsConfig, { user }: Envelope): Verdict {
  const target = config.postmaster
  const refuse = (status: string, text: string): Verdict => ({
    refused: { outcome: 'recipient.no-domain', code: 550, status, text, rule: main('postmaster') },
  })
  if (user.toLowerCase() !== 'postmaster') return refuse('5.1.3', 'An address needs a domain')
  if (!target) return refuse('5.1.1', 'No domain is served here, so there is no postmaster')
  const text = `<postmaster> is ${target.user}@${target.host}`
  const decision = accept('recipient.ours', '2.1.5', text, main('postmaster'))
  const domain = config.domains.find(target.host)
  return { accepted: { decision, instead: target, ...(domain && { domain }) } }
}

function isListed(recipients: Set<string>, { user }: Envelope, host: string): boolean {
  const local = unquoted(user).toLowerCase()
  return (
    local === 'postmaster' ||
    recipients.has(`${local}@${host}`) ||
    recipients.has(`${local.replace(/(?<=.)\+.*$/, '')}@${host}`)
  )
}

/** Who wrote MAIL FROM or From:, as far as it can be known. */
export interface Author {
  mayRelay: boolean
  /** The client is in `spoof_allowed`. */
  allowed: boolean
  /** A logged-in user wrote an address of his own. */
  own: boolean
  /** The domain for which this transaction's MAIL FROM had an SPF pass. */
  spfPass: string | undefined
}

/** The domain of ours that an address claims; a bare <postmaster> claims the first one. */
function claimed(config: DomainsConfig, { user, host }: { user: string; host: string }): Domain | undefined {
  if (host === '') return user === '' ? undefined : config.domains.first
  const name = domainOf(host)
  return name === undefined ? undefined : config.domains.find(name)
}

const excused = (author: Author): boolean => author.mayRelay || author.allowed || author.own

/** MAIL FROM in a domain of ours by somebody who is none of us (RFC 2505 2.6 names the risk: forwarders; hence the exceptions). */
export function judgeSender(
  config: DomainsConfig,
  sender: { user: string; host: string },
  author: Author,
): Decision | undefined {
  if (config.antiSpoof === 'off' || excused(author)) return undefined
  const domain = claimed(config, sender)
  if (!domain || (author.spfPass !== undefined && author.spfPass === domainOf(sender.host))) return undefined
  return forged(
    'sender.forged',
    `<${sender.user}${sender.host && `@${sender.host}`}>`,
    config.antiSpoof,
    'anti_spoof',
  )
}

/** The same for From: addresses. An SPF pass excuses them only where it was for the same domain of ours. */
export function judgeFrom(
  config: DomainsConfig,
  from: { user: string; host: string }[],
  author: Author,
): Decision | undefined {
  if (config.antiSpoofFrom === 'off' || excused(author)) return undefined
  const passed = author.spfPass === undefined ? undefined : config.domains.find(author.spfPass)
  const liar = from.find((address) => {
    const domain = claimed(config, address)
    return domain !== undefined && domain !== passed
  })
  return (
    liar && forged('from.forged', `From: ${liar.user}@${liar.host}`, config.antiSpoofFrom, 'anti_spoof_from')
  )
}

function forged(outcome: string, who: string, action: 'reject' | 'tag', key: string): Decision {
  const text = `${clean(who, 200)} is ours, and you are not: log in, or send from a host in its SPF record`
  const rule = main(`${key} = ${action}`)
  return action === 'reject'
    ? { outcome, code: 550, status: '5.7.1', text, rule }
    : { outcome: `${outcome}-tagged`, code: 250, status: '2.0.0', text, rule }
}
