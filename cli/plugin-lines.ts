// What stands in config/plugins beside our lines, and what comes of it.

/** Lines of plugins that offer AUTH. */
export const OTHER_AUTH = /^(auth\/|auth-)/
const IDLE_QUEUE = /^queue\/(lmtp|qmail-queue|rails|test|discard)$/

export interface Facts {
  /** A domain with `delivery = plugin`. */
  pluginDomains: boolean
  /** [users] in auth.ini. */
  users: boolean
  /** `host_list = true` in domains.ini. */
  hostList: boolean
}

/** Clashes with plugins that do the same work, in words for the operator; without `facts` those that no ini file excuses. */
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
  return [
    ...warnings,
    ...recipientWarnings(has, facts),
    ...queueWarnings(lines, facts),
    ...authClash(lines, facts),
  ]
}

function recipientWarnings(has: (line: string) => boolean, facts?: Facts): string[] {
  const unless = 'is refused unless domains.ini has the domain'
  return [
    ...(has('rcpt_to.in_host_list') && !facts?.hostList
      ? [`config/plugins: what rcpt_to.in_host_list accepts ${unless} (or host_list = true)`]
      : []),
    ...(has('recipient-routes') ? [`config/plugins: what recipient-routes accepts ${unless}`] : []),
  ]
}

/** Queue plugins get what nobody took before them: mail for domains with `delivery = plugin`. */
function queueWarnings(lines: string[], facts?: Facts): string[] {
  if (facts?.pluginDomains) return []
  const none = 'as no domain has delivery = plugin'
  const idle = lines.filter((line) => IDLE_QUEUE.test(line))
  return [
    ...(idle.length > 0 ? [`config/plugins: ${idle.join(', ')} gets no mail, ${none}`] : []),
    ...(lines.includes('queue/smtp_forward')
      ? [
          `config/plugins: queue/smtp_forward gets no mail, ${none}; it only routes what is relayed to the domains in smtp_forward.ini; take the line out unless you want that`,
        ]
      : []),
    ...(lines.includes('queue/smtp_proxy')
      ? [
          `config/plugins: queue/smtp_proxy gets no mail, ${none}, but it asks its own host at MAIL, RCPT and DATA of every message, and what that host refuses is refused; take the line out`,
        ]
      : []),
  ]
}

function authClash(lines: string[], facts?: Facts): string[] {
  const auth = lines.filter((line) => OTHER_AUTH.test(line))
  if (!facts?.users || auth.length === 0) return []
  return [`config/plugins: ${auth.join(', ')} and [users] in auth.ini both check passwords; keep one of them`]
}
