// How the message of a client that may not relay leaves: one way a transaction.
import type { Decision } from '../../../core/decision'
import type { Domain } from '../table'

/** The way of a message, by the domain of its first recipient. */
export interface DeliveryChoice {
  delivery: Domain['delivery']
  /** The same for recipients that may share a transaction. */
  key: string
  domain: Domain
}

/** `delivery = forward` shares a transaction where the next hop is the same, `queue` and `plugin` always. */
export function deliveryChoiceOf(domain: Domain): DeliveryChoice {
  const { delivery, route } = domain
  return { delivery, key: delivery === 'forward' ? `forward ${route?.key}` : delivery, domain }
}

/**
 * A message goes one way; the client sends it again for the recipient of another one (RFC 5321 4.5.3.1.10). Undefined
 * where the two go together. `choice`: undefined for the mail of a client that may relay, which goes to the queue.
 */
export function nextHopConflict(
  before: DeliveryChoice | undefined,
  choice: DeliveryChoice | undefined,
): Decision | undefined {
  if (!before || !choice || before.key === choice.key) return undefined
  const { domain } = choice
  return {
    outcome: 'recipient.other-next-hop',
    code: 452,
    status: '4.5.3',
    text: `${domain.name} and ${before.domain.name} go different ways: send this recipient in a transaction of its own`,
    rule: { file: domain.file, section: domain.section, key: 'next_hop' },
  }
}
