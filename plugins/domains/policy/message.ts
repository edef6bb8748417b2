// What is looked at in the message itself: loops, and who From: says that it is.
import type { Decision } from '../../../core/decision'
import { memo } from '../../../core/memo'
import { MAX_FROM, valuesOf } from './header'
import { malformed } from './octets'

const MAX_PASSES = 5

/** The part of a Received line that names the host which took the message. */
const byHost = memo(
  (name) => new RegExp(`\\bby\\s+${name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}(?![\\w.-])`, 'i'),
)

/**
 * RFC 5321 6.3: a message that has been here before, and again, goes round in a circle. `fields`: the header fields as
 * they are; `uuid`: the transaction's, which the Received line of this pass holds: that one does not count.
 */
export function judgeLoop(fields: readonly string[], uuid: string, hostName: string): Decision | undefined {
  const by = byHost(hostName)
  const passes = valuesOf(fields, 'Received').filter((line) => by.test(line) && !line.includes(uuid)).length
  if (passes <= MAX_PASSES) return undefined
  return {
    outcome: 'message.loop',
    code: 554,
    status: '5.4.6',
    text: `Mail loop: ${passes} Received lines of ${hostName}`,
    rule: { file: 'domains.ini', section: 'main', key: `more than ${MAX_PASSES} Received lines` },
  }
}

/** Refuses a From: that is too long to be read while others wait. `values` as `valuesOf` gives them. */
export function judgeFromSize(values: readonly string[]): Decision | undefined {
  const octets = values.reduce((sum, value) => sum + Buffer.byteLength(value), 0)
  return octets > MAX_FROM ? malformed(`From: is longer than ${MAX_FROM} octets`) : undefined
}
