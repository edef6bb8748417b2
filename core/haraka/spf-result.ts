// What haraka-plugin-spf found, if it is loaded.
import type { SpfAnswer } from '../party'
import { plain } from './address'
import type { Connection, Plugin } from './types'

let isLoaded = false

/** Finds out once whether the spf plugin is in config/plugins: then no answer of it means that DNS gave none. */
export function expectSpf(plugin: Plugin): void {
  const lines = (plugin.config.get('plugins', 'list') as string[] | undefined) ?? []
  isLoaded = lines.some((line) => /^(?:haraka-plugin-)?spf$/.test(line))
}

/**
 * SPF's answer for the domain of this transaction's MAIL FROM; not for HELO, not of an earlier transaction. The plugin
 * leaves no result where DNS took too long or failed; it asks nothing for private addresses, and says what it skips.
 */
export function senderSpf({ transaction, remote }: Connection): SpfAnswer {
  const host = transaction?.mail_from && plain(transaction.mail_from).host
  if (!transaction || !host) return 'no'
  const result = transaction.results.get('spf')
  if (result?.['scope'] !== 'mfrom')
    return isLoaded && !remote.is_private && !isSkipped(result) ? 'cannot tell' : 'no'
  // On Haraka 3.2 another plugin may pass the host on as it was wrapped (address.ts).
  if (String(result['domain'] ?? host) !== host) return 'no'
  if (result['result'] === 'Pass') return 'pass'
  return result['result'] === 'TempError' ? 'cannot tell' : 'no'
}

const isSkipped = (result: Record<string, unknown> | undefined): boolean =>
  Array.isArray(result?.['skip']) && result['skip'].length > 0
