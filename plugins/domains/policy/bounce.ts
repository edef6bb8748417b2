// Whether a DSN may go out for queued mail: never to somebody who may not have written it (RFC 3834 4, backscatter).
import type { Decision } from '../../../core/decision'
import type { Charge } from '../../../core/limiter/contract'
import { parseRate, printRate } from '../../../core/limiter/rate'
import { clean } from '../../../core/text'
import type { DomainsConfig } from '../config'

/** What a queue file remembers of the client who brought the message. Notes of other versions may lack any of it. */
export interface Memory {
  /** Of the client, for the record of what becomes of the message. */
  ip?: string
  mayRelay: boolean
  spfPass: boolean
  /** Said with MAIL, and said again to the next hop. */
  eightBit: boolean
  utf8: boolean
  /** Answers for good that LMTP gave after the message, by recipient. */
  refused?: Record<string, { code: number; status: string; text: string; host?: string }>
}

/** Whom a DSN would go to: the null sender, who gets none (RFC 5321 4.5.5), an address in a domain of ours, or any other. */
export type DsnRecipient = 'null' | 'ours' | 'foreign'

/**
 * The decision that drops a DSN; undefined: it may go out. Without a memory nobody knows who brought the message: it was
 * queued before these plugins were loaded, or another plugin made it. Then a DSN stays among our own domains.
 */
export function mayBounce(
  { bounce }: Pick<DomainsConfig, 'bounce'>,
  recipient: DsnRecipient,
  memory: Pick<Memory, 'mayRelay' | 'spfPass'> | undefined,
): Decision | undefined {
  if (recipient === 'null') return dropped(bounce, 'The null sender is sent no DSN')
  if (bounce === 'send' || memory?.mayRelay) return undefined
  if (!memory && recipient === 'ours') return undefined
  if (bounce === 'verified' && memory?.spfPass) return undefined
  return dropped(bounce, 'No DSN is sent to a sender that is not verified')
}

/** So many DSNs go to one domain outside. */
const DSN_LIMIT = parseRate('500/1h')
/** Those that wait come back within this time, ms, not all at once. */
const SPREAD = 3_600_000

/** What a DSN to this domain is counted as. */
export const dsnCharge = (domain: string): Charge => ({
  scope: 'recipient domain',
  subject: domain,
  what: 'bounces',
  cost: 1,
  limit: DSN_LIMIT,
})

/**
 * What becomes of a DSN for which there is no room, `retryAfter` ms before there is: the decision, and after how many
 * seconds the message is tried again; 0: the DSN is dropped, as it must where it cannot wait. `random`: 0 to 1.
 */
export function overLimit(
  { bounce }: Pick<DomainsConfig, 'bounce'>,
  domain: string,
  { retryAfter, canWait, random }: { retryAfter: number; canWait: boolean; random: number },
): { decision: Decision; delay: number } {
  const why = `Too many DSNs to ${clean(domain, 100)} (${printRate(DSN_LIMIT)})`
  if (!canWait) return { decision: dropped(bounce, `${why}, and no more can wait`), delay: 0 }
  const delay = Math.ceil((Math.min(retryAfter, SPREAD) + random * SPREAD) / 1000)
  const text = `${why}, trying again in ${delay} s`
  return {
    decision: { ...dropped(bounce, text), outcome: 'bounce.limited', code: 450, status: '4.7.1' },
    delay,
  }
}

const dropped = (bounce: DomainsConfig['bounce'], text: string): Decision => ({
  outcome: 'bounce.dropped',
  code: 550,
  status: '5.7.1',
  text,
  rule: { file: 'domains.ini', section: 'main', key: `bounce = ${bounce}` },
})
