// What stands in config/plugins beside our lines, and what comes of it.

const OTHER_AUTH = /^(auth\/|auth-)/
const OTHER_QUEUE = /^queue\/(smtp_forward|smtp_proxy|lmtp|qmail-queue|rails|test|discard)$/

export interface Facts {
  /** A domain with `delivery = plugin`. */
  pluginDomains: boolean
  /** [users] in auth.ini. */
  users: boolean
}

/** Clashes with plugins that do the same work, in words for the operator. */
export function pluginWarnings(lines: string[], facts?: Facts): string[] {
  const has = (line: string) => lines.includes(line)
  const warnings: string[] = []
  if (has('relay')) {
    warnings.push(
      'config/plugins: relay decides the same as relay-guard/acl; [never] holds beside it, but take the line out',
    )
  }
  if (has('limit') && has('relay-guard/limits')) {
    warnings.push(
      'config/plugins: limit counts the same as relay-guard/limits, and stops mail when Redis stops; take the line out',
    )
  }
  if (!has('relay-guard/domains')) return warnings
  for (const line of ['rcpt_to.in_host_list', 'recipient-routes'].filter(has)) {
    warnings.push(
      `config/plugins: what ${line} accepts is refused unless domains.ini has the domain (or host_list = true)`,
    )
  }
  const queues = lines.filter((line) => OTHER_QUEUE.test(line))
  if (queues.length > 0 && !facts?.pluginDomains) {
    warnings.push(`config/plugins: ${queues.join(', ')} gets no mail, as no domain has delivery = plugin`)
  }
  const auth = lines.filter((line) => OTHER_AUTH.test(line))
  if (facts?.users && auth.length > 0) {
    warnings.push(
      `config/plugins: ${auth.join(', ')} and [users] in auth.ini both check passwords; keep one of them`,
    )
  }
  return warnings
}
