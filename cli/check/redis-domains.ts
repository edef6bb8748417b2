// What `check` says of the domains in Redis: all are read, and the answer is bounded.
import type { RedisConfig } from '../../core/redis/config'
import type { ReadHash } from '../../plugins/domains/redis/hash'
import type { Domain } from '../../plugins/domains/table'
import { withDomains } from '../domain/redis'

/** So many mistakes are shown, and the next hops of so many domains asked. */
const SHOWN = 20

/** What was found: the first ones, and how many there are. */
export interface FoundDomains {
  count: number
  mistakes: string[]
  domains: Domain[]
}

/** Reads every domain in Redis. Rejects with a sentence where Redis cannot be reached. */
export function checkDomains(settings: RedisConfig, read: ReadHash): Promise<FoundDomains> {
  return withDomains(settings, read, async ({ all }) => {
    const found: FoundDomains = { count: 0, mistakes: [], domains: [] }
    let bad = 0
    for await (const { domain, error } of all()) {
      found.count++
      if (domain && found.domains.length < SHOWN) found.domains.push(domain)
      if (error !== undefined && ++bad <= SHOWN) found.mistakes.push(error)
    }
    if (bad > SHOWN)
      found.mistakes.push(`Redis: ${bad - SHOWN} more domains are bad; relay-guard domain list shows all`)
    return found
  })
}
