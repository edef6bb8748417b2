// What is looked at in the message itself: loops, and who From: says that it is.
import type { Decision } from '../../../core/decision'
import type { Transaction } from '../../../core/haraka/types'
import { parseHeader } from '../../../core/header-address'

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

/** `From :` with a space is a From: field too (RFC 5322 4.5), but not to Haraka. */
const FROM = /^from[ \t]*:(.*)$/is

/** The addresses of all From: fields. Where one cannot be parsed, whatever in it looks like an address. */
export function fromAddresses({ header }: Pick<Transaction, 'header'>): { user: string; host: string }[] {
  return header.lines().flatMap((line) => {
    const value = FROM.exec(line)?.[1]?.replace(/\r?\n/g, ' ').trim()
    if (!value) return []
    const parsed = parsedFrom(value)
    return parsed.length > 0 ? parsed : roughly(`${value} ${header.decode_header(value)}`)
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

/** Split and not matched, because the time must not grow with the square of what a client sends. */
function roughly(value: string): { user: string; host: string }[] {
  const joined = value
    .normalize('NFKC')
    .split('@')
    .map((part) => part.replace(/^[\s"]+|(?<![\s"])[\s"]+$/g, ''))
    .join('@')
  return joined.split(/[\s<>()",;:]+/).flatMap((word) => {
    const parts = word.split('@')
    return parts.slice(1).map((host, index) => ({ user: parts[index] ?? '', host }))
  })
}
