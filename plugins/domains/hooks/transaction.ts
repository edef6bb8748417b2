// What this plugin knows of one open transaction.
import type { Transaction } from '../../../core/haraka/types'
import type { Delivery } from '../../../core/next-hop/delivery'
import type { Domain } from '../table'

/** How the message of a client that may not relay leaves: one way a transaction. */
export interface DeliveryChoice {
  delivery: Domain['delivery']
  /** The same for recipients that may share a transaction. */
  key: string
  domain: Domain
}

export interface TransactionState {
  choice?: DeliveryChoice
  /** The transaction with the next hop, under `forward`. */
  next?: Delivery
  /** MAIL FROM was judged; where a plugin before us ended the mail hook, it is judged at RCPT. */
  senderJudged: boolean
  /** Headers that a tag asked for. */
  tags: string[]
  /** BODY= and SIZE= of MAIL. */
  parameters: Record<string, string | null>
}

const states = new WeakMap<Transaction, TransactionState>()

export function stateOf(transaction: Transaction): TransactionState {
  let state = states.get(transaction)
  if (!state) {
    state = { senderJudged: false, tags: [], parameters: {} }
    states.set(transaction, state)
  }
  return state
}

/** `delivery = forward` shares a transaction where the next hop is the same, `queue` and `plugin` always. */
export function deliveryChoiceOf(domain: Domain): DeliveryChoice {
  const { delivery, route } = domain
  return { delivery, key: delivery === 'forward' ? `forward ${route?.key}` : delivery, domain }
}

/** Drops the transaction with the next hop: no message is completed, whatever state it is in. */
export function abandonDelivery(transaction: Transaction | null): void {
  const state = transaction && states.get(transaction)
  state?.next?.abort()
  if (state) delete state.next
}
