// relay-guard check: the server's own readers on the files, what makes a relay in practice, and each next hop asked.
import { printConfigError } from '../../core/ini/parse'
import type { Call } from '../call'
import { harakaAt } from '../haraka-dir'
import { findHaraka, unresolvedLines } from '../haraka-plugins'
import { openRelays } from './acl'
import { askNextHops, askRedis, askSmarthost } from './ask'
import { overloadWarnings } from './overload'
import { isGood, printReport, type Report } from './print'
import { readConfiguration } from './read'
import { checkDomains } from './redis-domains'
import { warningsOf } from './warnings'

/** Prints what is wrong, doubtful and reached. 1: an error, or somebody who is needed cannot be reached or refuses. */
export async function check({ dir, json, print }: Call): Promise<0 | 1> {
  harakaAt(dir)
  const configuration = readConfiguration(dir)
  const { errors, domains, redis, lines, world, acl, aclSections } = configuration
  const unresolved = unresolvedLines(lines, dir, findHaraka(dir))
  const isReadable = errors.length === 0
  const asksRedis = isReadable && domains.domains.asksRedis
  const needsRedis = asksRedis || (isReadable && redis.enabled && lines.includes('relay-guard/limits'))
  const answer = needsRedis ? await askRedis(redis) : undefined
  const inRedis = asksRedis && answer?.ok ? await checkDomains(redis, domains.readHash) : undefined
  const report: Report = {
    mistakes: [
      ...errors.map(printConfigError),
      ...(inRedis?.mistakes ?? []),
      ...openRelays(acl, aclSections),
      ...(unresolved ?? []),
    ],
    warnings: [
      ...(unresolved
        ? []
        : ['config/plugins: Haraka itself is not found, so whether it finds these plugins is not checked']),
      ...warningsOf(configuration),
      ...(lines.includes('relay-guard/overload') ? await overloadWarnings(configuration.overload, dir) : []),
      ...(inRedis?.count === 0 ? ['domains.ini [main] redis: Redis holds no domain'] : []),
    ],
    nextHops: isReadable ? await askNextHops(domains, world.hostName, { more: inRedis?.domains ?? [] }) : [],
    smarthost: isReadable ? await askSmarthost(domains, world.hostName) : [],
  }
  if (answer) report.redis = answer
  if (json) print(JSON.stringify({ good: isGood(report), ...report }))
  else for (const line of printReport(report)) print(line)
  return isGood(report) ? 0 : 1
}
