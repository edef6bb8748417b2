// Aliases of other plugins at RCPT: what was asked for, and what stands in its place.
import type { Decision } from '../../../core/decision'
import { plain } from '../../../core/haraka/address'
import type { Address, Connection, HarakaAddress, Transaction } from '../../../core/haraka/types'
import { aliasWay, refusedTarget } from '../policy/alias'
import type { DeliveryChoice } from '../policy/route-choice'
import { deliveryChoiceFor, judge } from './runtime'
import { stateOf } from './transaction'

/** Remembers the address that the client names, before another plugin's hook can put others in its place. */
export function rememberAsked(transaction: Transaction, address: HarakaAddress): void {
  forgetRefused(transaction, 1)
  const at = transaction.rcpt_to.length - 1
  stateOf(transaction).asked = { address: plain(address), at, accepted: transaction.rcpt_count.accept }
}

/**
 * Of a refused alias core takes only the last target away. `pending`: recipients at the end of the list that are not
 * answered yet.
 */
export function forgetRefused(transaction: Transaction, pending: number): void {
  const state = stateOf(transaction)
  const { asked } = state
  if (asked && transaction.rcpt_count.accept === asked.accepted)
    transaction.rcpt_to.splice(asked.at, transaction.rcpt_to.length - pending - asked.at)
  delete state.asked
}

/** The recipients that stand for the one asked for; undefined where it stands for itself. */
export function aliasTargets(transaction: Transaction): { asked: Address; targets: Address[] } | undefined {
  const { asked } = stateOf(transaction)
  if (!asked) return undefined
  const targets = transaction.rcpt_to.slice(asked.at).map(plain)
  return targets.length === 1 && targets[0] === asked.address ? undefined : { asked: asked.address, targets }
}

/** The alias that each target stands for, once it is accepted. */
const aliases = new WeakMap<Address, Address>()

/** The alias that put this recipient in its place; undefined: the client named it. */
export const aliasOf = (recipient: HarakaAddress): Address | undefined => aliases.get(plain(recipient))

/** Why the alias that is asked for is refused; undefined: it is none, or nothing is against it. */
export function aliasRefusal(connection: Connection, transaction: Transaction): Decision | undefined {
  const alias = aliasTargets(transaction)
  if (!alias) return undefined
  const verdicts = alias.targets.map((target) => ({
    path: target.address,
    verdict: judge(connection, target),
  }))
  return refusedTarget(alias.asked, verdicts)
}

/**
 * The way of the alias that is asked for; targets of other next hops are noted, to go to the queue. Undefined: it is none,
 * or all its targets go one way, as any recipient.
 */
export function chooseAliasWay(
  connection: Connection,
  transaction: Transaction,
): { way?: DeliveryChoice; refused?: Decision } | undefined {
  const alias = aliasTargets(transaction)
  if (!alias) return undefined
  for (const target of alias.targets) aliases.set(target, alias.asked)
  const routed = alias.targets.flatMap((target) => {
    const way = deliveryChoiceFor(connection, judge(connection, target).accepted?.domain)
    return way ? [{ target, way }] : []
  })
  if (new Set(routed.map(({ way }) => way.key)).size < 2) return undefined
  const state = stateOf(transaction)
  const chosen = aliasWay(
    alias.asked,
    state.choice,
    routed.map(({ way }) => way),
  )
  for (const { target, way } of routed) if (way.key !== chosen.way?.key) state.queued.add(target)
  return chosen
}
