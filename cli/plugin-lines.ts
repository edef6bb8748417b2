// What stands in config/plugins beside our lines, and what comes of it.
import { queueWarnings } from '../plugins/domains/other-queues'

/** Lines of plugins that offer AUTH. */
export const OTHER_AUTH = /^(auth\/|auth-)/

/** Names under which Haraka still loads these two (`deprecated` in its plugins.js). */
const RELAY = ['relay', 'relay_acl', 'relay_all', 'relay_force_routing']
const LIMIT = ['limit', 'rate_limit', 'rcpt_to.max_count', 'max_unrecognized_commands']

/** What the warnings about plugin lines depend on besides the lines. */
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
  for (const line of RELAY.filter(has)) {
    warnings.push(
      `config/plugins: ${line} decides the same as relay-guard/acl; [never] holds beside it, but take the line out`,
    )
  }
  for (const line of has('relay-guard/limits') ? LIMIT.filter(has) : []) {
    warnings.push(
      `config/plugins: ${line} counts the same as relay-guard/limits, and stops mail when Redis stops; take the line out`,
    )
  }
  if (!has('relay-guard/domains')) return warnings
  return [
    ...warnings,
    ...recipientWarnings(has, facts),
    ...queueWarnings(lines, facts?.pluginDomains ?? false),
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

function authClash(lines: string[], facts?: Facts): string[] {
  const auth = lines.filter((line) => OTHER_AUTH.test(line))
  if (!facts?.users || auth.length === 0) return []
  return [`config/plugins: ${auth.join(', ')} and [users] in auth.ini both check passwords; keep one of them`]
}
