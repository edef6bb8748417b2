// What is allowed and seldom meant, in words for the operator.
import type { DomainsConfig } from '../../plugins/domains/config'
import { OTHER_AUTH, pluginWarnings } from '../plugin-lines'
import { relayWarnings } from './acl'
import { aliasWarnings } from './aliases'
import { holdsEverybody } from './coverage'
import type { Configuration } from './read'

/** All warnings about a configuration, in the order of the files. */
export function warningsOf(configuration: Configuration): string[] {
  const { lines, acl, aclSections, aliases, auth, domains, hostList } = configuration
  return [
    ...lineWarnings(configuration),
    ...pluginWarnings(lines, {
      // One in Redis may have delivery = plugin at any time.
      pluginDomains:
        domains.domains.asksRedis || domains.domains.all().some(({ delivery }) => delivery === 'plugin'),
      users: auth.users.size > 0,
      hostList,
    }),
    ...relayWarnings(acl, aclSections),
    ...authWarnings(configuration),
    ...domainWarnings(domains, lines),
    ...aliasWarnings(aliases ?? {}, domains),
  ]
}

/** Lines of ours that are missing: nothing of a file holds whose plugin is not loaded. */
function lineWarnings({ lines, filled }: Configuration): string[] {
  const ours = lines.some((line) => line.startsWith('relay-guard/'))
  return [
    ...(ours ? [] : ['config/plugins: no line of relay-guard is there']),
    ...filled
      .filter((plugin) => plugin !== 'redis' && !lines.includes(`relay-guard/${plugin}`))
      .map(
        (plugin) =>
          `config/plugins: the line relay-guard/${plugin} is not there, so nothing of ${plugin}.ini is in force`,
      ),
  ]
}

function authWarnings({ lines, auth }: Configuration): string[] {
  const warnings: string[] = []
  const loaded = lines.filter((line) => line === 'relay-guard/auth' || OTHER_AUTH.test(line))
  const inForce = lines.includes('relay-guard/auth')
  if (loaded.length > 0 && !lines.includes('tls')) {
    const then =
      inForce && auth.requireTls
        ? 'nobody can log in but on port 465 and from plaintext_allowed'
        : 'passwords are sent in clear'
    warnings.push(
      `config/plugins: ${loaded.join(', ')} without the line tls: STARTTLS is not offered, and ${then}`,
    )
  }
  if (!auth.requireTls)
    warnings.push(
      'auth.ini [main] require_tls = false: whoever listens on the way reads passwords, and may relay with them',
    )
  if (holdsEverybody(auth.plaintextAllowed))
    warnings.push(
      'auth.ini [main] plaintext_allowed: nearly everybody may log in without TLS; list your own subnets only',
    )
  return warnings
}

function domainWarnings(config: DomainsConfig, lines: string[]): string[] {
  const warnings: string[] = []
  const all = config.domains.all()
  const { asksRedis } = config.domains
  if (all.length === 0 && !asksRedis)
    warnings.push('domains.ini: no domain is ours, so no mail from outside is taken')
  if (asksRedis && !config.postmaster)
    warnings.push(
      'domains.ini [main] postmaster: is empty, and no domain is in a file: mail to <postmaster> is refused; name an address',
    )
  if (holdsEverybody(config.spoofAllowed))
    warnings.push(
      'domains.ini [main] spoof_allowed: nearly everybody may write in your name; list single hosts and your own subnets only',
    )
  if (config.antiSpoof !== 'off' && (all.length > 0 || asksRedis) && !lines.includes('spf')) {
    warnings.push(
      'domains.ini [main] anti_spoof: without the spf plugin, hosts in your own SPF records are taken for forgers too, unless spoof_allowed names them',
    )
  }
  if (config.bounce === 'send') {
    warnings.push('domains.ini [main] bounce = send: DSNs go to senders that may be forged (backscatter)')
  }
  for (const { name, delivery, verify, recipients } of all) {
    if (delivery === 'queue' && verify === 'none' && !recipients) {
      warnings.push(
        `domains.ini [${name}]: with delivery = queue and verify = none every recipient is accepted, and mail for unknown ones comes back; list them with recipients[] or write verify = callout`,
      )
    }
  }
  return warnings
}
