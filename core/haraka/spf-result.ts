// What haraka-plugin-spf found, if it is loaded.
import type { SpfAnswer } from '../party'
import type { Connection } from './types'

/**
 * SPF's answer for the domain of this transaction's MAIL FROM; not for HELO, not of an earlier transaction. Where no
 * answer is there: `no`.
 */
export function senderSpf({ transaction }: Connection): SpfAnswer {
  const result = transaction?.results.get('spf')
  if (!transaction || result?.['scope'] !== 'mfrom') return 'no'
  const { host } = transaction.mail_from
  if (host === '' || (result['domain'] ?? host) !== host) return 'no'
  if (result['result'] === 'Pass') return 'pass'
  return result['result'] === 'TempError' ? 'cannot tell' : 'no'
}
