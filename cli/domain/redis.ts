// The domains in Redis as the command reads them: one by one, or all in pieces.
import { withoutLogins } from '../../core/ini/secrets'
import { within } from '../../core/limiter/failover'
import { normalDomain } from '../../core/mail-address'
import type { RedisConfig } from '../../core/redis/config'
import { type Client, closeRedis, openRedis, whenReady } from '../../core/redis/connection'
import { isForGood, printError } from '../../core/redis/errors'
import { type Keys, makeKeys } from '../../core/redis/keys'
import { globOf, mastersOf, scanKeys } from '../../core/redis/scan'
import { clean } from '../../core/text'
import { type Hash, printHashErrors, type ReadHash } from '../../plugins/domains/redis/hash'
import { hashesOf } from '../../plugins/domains/redis/look-up'
import type { Domain } from '../../plugins/domains/table'

/** For connecting, and then for each answer, ms. */
const PATIENCE = 2000

/** One domain in Redis: its fields and what they mean, or what is wrong with them, in one line. */
export type Entry =
  | { name: string; hash: NonNullable<Hash>; domain: Domain; error?: never }
  | { name: string; error: string; hash?: never; domain?: never }

/** A connection for one call. */
export interface Domains {
  client: Client
  keys: Keys
  /** Undefined: there is none. Rejects where Redis does not answer. */
  get(name: string): Promise<Entry | undefined>
  /** All of them, each once, in no order. Rejects as `get`. */
  all(): AsyncGenerator<Entry>
}

/** Connects, does what is to be done, and ends the connection. Rejects with a sentence where Redis cannot be reached. */
export async function withDomains<T>(
  settings: RedisConfig,
  read: ReadHash,
  use: (domains: Domains) => Promise<T>,
): Promise<T> {
  if (!settings.enabled) throw new Error('redis.ini: enabled = false, so there are no domains in Redis')
  const client = openRedis(settings)
  const keys = makeKeys(settings.prefix)
  const entries = async (names: string[]) => {
    const hashes = await within(PATIENCE, hashesOf(client, names.map(keys.domain)))
    return names.map((name, at) => entryOf(name, hashes[at]!, read))
  }
  try {
    await whenReady(client, PATIENCE)
    return await use({
      client,
      keys,
      get: async (name) => (await entries([name]))[0],
      async *all() {
        for await (const names of namesIn(client, keys.domain(''))) {
          for (const entry of await entries(names)) if (entry) yield entry
        }
      },
    })
  } catch (error) {
    throw new Error(`Redis: ${printError(error)}`)
  } finally {
    await closeRedis(client)
  }
}

/** Undefined: there is no such key, or no more. Throws the errors that are not of this key. */
function entryOf(name: string, answer: Record<string, string> | Error, read: ReadHash): Entry | undefined {
  if (answer instanceof Error && !isForGood(answer)) throw answer
  const hash = answer instanceof Error ? undefined : answer
  if (hash && Object.keys(hash).length === 0) return undefined
  const wrong = wrongName(name)
  if (wrong) return { name: shown(name), error: `Redis [domain:${shown(name)}]: ${wrong}` }
  const { domain, errors } = read(name, hash)
  return domain && hash ? { name, hash, domain } : { name, error: printHashErrors(errors) }
}

const shown = (name: string): string => withoutLogins(clean(name, 100))

/** The server looks up names in their one form: a key with another one is never found. */
function wrongName(name: string): string | undefined {
  try {
    const normal = normalDomain(name)
    return normal === name ? undefined : `is never looked up; write domain:${normal}`
  } catch {
    return 'is not a domain name, and is never looked up'
  }
}

/** By SCAN, on each master of a Cluster, so that Redis goes on serving others. */
async function* namesIn(client: Client, prefix: string): AsyncGenerator<string[]> {
  const seen = new Set<string>()
  for (const node of mastersOf(client)) {
    for await (const found of scanKeys(node, `${globOf(prefix)}*`, (answer) => within(PATIENCE, answer))) {
      // SCAN may show a key twice.
      const names = found.map((key) => key.slice(prefix.length)).filter((name) => !seen.has(name))
      for (const name of names) seen.add(name)
      if (names.length > 0) yield [...new Set(names)]
    }
  }
}
