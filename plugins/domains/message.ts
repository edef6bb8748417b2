// What is looked at in the message itself: loops, and who From: says that it is.
import { parseHeader } from '@haraka/email-address'
import type { Decision } from '../../core/decision'
import type { Transaction } from '../../core/haraka'

const MAX_PASSES = 5

/** RFC 5321 6.3: a message that has been here before, and again, goes round in a circle. The line of this pass does not count. */
export function judgeLoop(transaction: Transaction, hostName: string): Decision | undefined {
  const by = new RegExp(`\\bby\\s+${hostName.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}(?![\\w.-])`, 'i')
  const passes = transaction.header
    .get_all('Received')
    .filter((line) => by.test(line) && !line.includes(transaction.uuid)).length
  if (passes <= MAX_PASSES) return undefined
  return {
    outcome: 'message.loop',
    code: 554,
    status: '5.4.6',
    text: `Mail loop: ${passes} Received lines of ${hostName}`,
    rule: { file: 'domains.ini', section: 'main', key: `more than ${MAX_PASSES} Received lines` },
  }
}

/** The addresses of all From: fields. Where one cannot be parsed, whatever in it looks like an address. */
export function fromAddresses(transaction: Transaction): { user: string; host: string }[] {
  return transaction.header.get_all('From').flatMap((value) => {
    const parsed = parsedFrom(value.replace(/\r?\n/g, ' ').trim())
    return parsed.length > 0 ? parsed : roughly(value)
  })
}

function parsedFrom(value: string): { user: string; host: string }[] {
  try {
    return parseHeader(value, { startAt: 'from' })
      .flatMap((each) => ('addresses' in each ? each.addresses : [each]))
      .map(({ user, host }) => ({ user: String(user ?? ''), host: String(host ?? '') }))
      .filter(({ user }) => user !== '')
  } catch {
    return []
  }
}

const roughly = (value: string): { user: string; host: string }[] =>
  [...value.matchAll(/([^\s<>()",;:]+)@([^\s<>()",;:@]+)/g)].map(([, user = '', host = '']) => ({
    user,
    host,
  }))
