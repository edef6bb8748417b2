// What became of each message of the soak: its client's view beside that of the next hops.

/** The most messages of one run: each has some bytes, whatever becomes of it. */
export const MOST_IDS = 2 ** 21

/** Of a message, by what its client was told; `PAIR` is added where one of its two recipients is refused after the data. */
export const ACCEPTED = 1
export const UNANSWERED = 2
export const REFUSED = 3
export const PAIR = 8

/** What the next hops saw, by the number of a message: how often it was taken, and how often without an answer that got out. */
export interface Seen {
  delivered: Uint8Array
  unanswered: Uint8Array
  /** The same of DSNs about it. */
  told: Uint8Array
  toldUnanswered: Uint8Array
}

/** How many messages ended so, and some of their numbers where it is a fault. */
export interface Ledger {
  accepted: number
  delivered: number
  told: number
  both: number
  /** A fault: accepted, and neither delivered nor its sender told. */
  lost: number[]
  /** A fault: a next hop had got its answer out, and the message or its DSN came again. */
  twice: number[]
  /** A fault: the client was refused, and the next hop took the message and said so. */
  refusedYetDelivered: number[]
  /** Twice because a next hop died before its answer to the final dot got out (RFC 1047): no server can know. */
  twiceUnanswered: number
}

/** Adds up what became of the messages 1 to `last`. */
export function settle(states: Uint8Array, last: number, seen: Seen): Ledger {
  const ledger: Ledger = {
    accepted: 0,
    delivered: 0,
    told: 0,
    both: 0,
    lost: [],
    twice: [],
    refusedYetDelivered: [],
    twiceUnanswered: 0,
  }
  for (let id = 1; id <= last; id++) settleOne(ledger, id, states[id] ?? 0, seen)
  return ledger
}

function settleOne(ledger: Ledger, id: number, state: number, seen: Seen): void {
  const isPair = (state & PAIR) !== 0
  const said = state & ~PAIR
  const delivered = seen.delivered[id] ?? 0
  const told = seen.told[id] ?? 0
  const deliveredFor = delivered - (seen.unanswered[id] ?? 0)
  const toldFor = told - (seen.toldUnanswered[id] ?? 0)
  if (said === REFUSED && deliveredFor > 0) ledger.refusedYetDelivered.push(id)
  const wanted = isPair ? 2 : 1
  if (deliveredFor > 1 || deliveredFor + toldFor > wanted) ledger.twice.push(id)
  else if (delivered > 1 || delivered + told > wanted) ledger.twiceUnanswered++
  if (said !== ACCEPTED) return
  ledger.accepted++
  if (delivered > 0 && told > 0) ledger.both++
  else if (delivered > 0) ledger.delivered++
  else if (told > 0) ledger.told++
  // Of a pair one recipient gets it, and the sender is told of the other; or of both.
  if (Math.min(delivered, 1) + told < wanted) ledger.lost.push(id)
}
