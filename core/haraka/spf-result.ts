// What haraka-plugin-spf found, if it is there.
import type { Connection } from './types'

/** The SPF pass of this transaction's MAIL FROM (haraka-plugin-spf); not of HELO, not of an earlier transaction. */
export function senderSpfPass({ transaction }: Connection): string | undefined {
  const result = transaction?.results.get('spf')
  if (!transaction || result?.['scope'] !== 'mfrom' || result['result'] !== 'Pass') return undefined
  const { host } = transaction.mail_from
  return host !== '' && (result['domain'] ?? host) === host ? host : undefined
}
