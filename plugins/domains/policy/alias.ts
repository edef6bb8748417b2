// Another plugin (haraka-plugin-aliases) puts one or more recipients in the place of the one that the client named.
import type { Decision } from '../../../core/decision'
import type { Mailbox } from '../../../core/party'
import { clean } from '../../../core/text'
import type { RecipientVerdict } from './recipient'
import type { DeliveryChoice } from './route-choice'

/**
 * A decision about what an alias stands for, in the name of the address that the client named: the rest is nobody's
 * business, and only logged.
 */
export function inNameOf({ user, host }: Mailbox, decision: Decision, target: string): Decision {
  const shown = clean(`<${user}${host && `@${host}`}>`, 200)
  const text =
    decision.code < 400
      ? `${shown} is an alias`
      : decision.outcome === 'recipient.relay-denied'
        ? `Relaying to ${shown} denied: it is an alias for an address that is not ours`
        : `${shown} is an alias, and an address that it stands for is refused`
  return { ...decision, text, detail: clean(`alias for ${target}: ${decision.text}`) }
}

/** Why an alias is refused: one of its targets is; undefined: none. */
export function refusedTarget(
  asked: Mailbox,
  targets: readonly { path: string; verdict: RecipientVerdict }[],
): Decision | undefined {
  const bad = targets.find(({ verdict }) => verdict.refused)
  return bad?.verdict.refused && inNameOf(asked, bad.verdict.refused, bad.path)
}

/**
 * Which way an alias with targets of several next hops goes, of the ways of its targets: the one that the transaction has
 * taken, else a forwarding one; the targets of the others go to the queue. Other plugins' queues cannot be mixed: refused.
 */
export function aliasWay(
  asked: Mailbox,
  taken: DeliveryChoice | undefined,
  ways: readonly DeliveryChoice[],
): { way?: DeliveryChoice; refused?: Decision } {
  const first =
    ways.find(({ key }) => key === taken?.key) ?? ways.find(({ delivery }) => delivery === 'forward')
  const way = first ?? ways[0]
  const mixed = ways.find(({ delivery, key }) => delivery === 'plugin' && key !== way?.key)
  if (!mixed || !way) return way ? { way } : {}
  const { file, section } = mixed.domain
  const refused: Decision = {
    outcome: 'recipient.other-next-hop',
    code: 550,
    status: '5.3.5',
    text: 'this delivery cannot be mixed with another one',
    rule: { file, section, key: 'delivery = plugin' },
  }
  return { refused: inNameOf(asked, refused, mixed.domain.name) }
}
