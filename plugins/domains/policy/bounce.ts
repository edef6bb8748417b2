// Whether a DSN may go out for queued mail: never to somebody who may not have written it (RFC 3834 4, backscatter).
import type { Decision } from '../../../core/decision'
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

/** The decision that drops a DSN; undefined: it may go out. Mail without a memory is this server's own. */
export function mayBounce(
  { bounce }: Pick<DomainsConfig, 'bounce'>,
  memory: Pick<Memory, 'mayRelay' | 'spfPass'> | undefined,
): Decision | undefined {
  if (!memory || memory.mayRelay || bounce === 'send') return undefined
  if (bounce === 'verified' && memory.spfPass) return undefined
  return {
    outcome: 'bounce.dropped',
    code: 550,
    status: '5.7.1',
    text: 'No DSN is sent to a sender that is not verified',
    rule: { file: 'domains.ini', section: 'main', key: `bounce = ${bounce}` },
  }
}
