// What this plugin knows of one open transaction.
import type { Address, Transaction } from '../../../core/haraka/types'
import type { Delivery } from '../../../core/next-hop/delivery'
import type { MessageOctets } from '../policy/octets'
import type { RecipientVerdict } from '../policy/recipient'
import type { DeliveryChoice } from '../policy/route-choice'
import type { Found } from '../table'

/** The decision about a recipient, and all that it was made from: another plugin may write into an address. */
export interface Judged extends Pick<Address, 'original' | 'user' | 'host'> {
  generation: number
  /** What is known of the domain in Redis. */
  found: Found
  classification: object
  mayRelay: boolean
  verdict: RecipientVerdict
}

/** What the hooks keep of one transaction; it goes when Haraka's transaction goes. */
export interface TransactionState {
  choice?: DeliveryChoice
  /** The transaction with the next hop, under `forward`. */
  next?: Delivery
  /** What the RCPT that is not answered yet asks for: which address, where its recipients begin, how many were accepted before. */
  asked?: { address: Address; at: number; accepted: number }
  /** Targets of an alias that go another way than `choice`: by the queue. */
  queued: Set<Address>
  /** Reads the message from DATA on. */
  octets?: MessageOctets
  /** The message was judged, and passed. */
  messageJudged?: boolean
  /** What a tag says of MAIL FROM and of From:. */
  tags: { sender?: string; from?: string }
  /** BODY= and SIZE= of MAIL. */
  parameters: Record<string, string | null>
  judged: Map<Address, Judged>
}

/** On Haraka's transaction, under a name that only this file has: the collector walks a weak map each time. */
const STATE = Symbol('relay-guard domains')
type WithState = Transaction & { [STATE]?: TransactionState }

/** The state of a transaction, made at the first call. */
export function stateOf(transaction: WithState): TransactionState {
  transaction[STATE] ??= { tags: {}, parameters: {}, judged: new Map(), queued: new Set() }
  return transaction[STATE]
}

/** Drops the transaction with the next hop: no message is completed, whatever state it is in. */
export function abandonDelivery(transaction: WithState | null): void {
  const state = transaction?.[STATE]
  state?.next?.abort()
  if (state) delete state.next
}

/** No further hook of these plugins runs for this transaction. */
export function skipPlugins({ notes }: Transaction, names: readonly string[]): void {
  for (const name of names) if (!notes.skip_plugins.includes(name)) notes.skip_plugins.push(name)
}
