// Looks through the keys of a Redis by SCAN, so that it goes on serving others.
import { Cluster, type Redis } from 'ioredis'
import type { Client } from './connection'

/** Keys that SCAN looks at in one command. */
const SCANNED = 1000

/** A text as a pattern that matches it alone. */
export const globOf = (text: string): string => text.replace(/[\\*?[\]]/g, '\\$&')

/** Each server that has keys of its own: the one, or the masters of a Cluster. */
export const mastersOf = (client: Client): Redis[] =>
  client instanceof Cluster ? client.nodes('master') : [client]

/**
 * The keys of one server that match, some or none at a time; one may come twice. `limited` is given each answer to wait for.
 * Rejects where Redis does not answer.
 */
export async function* scanKeys(
  node: Redis,
  pattern: string,
  limited = <T>(answer: Promise<T>): Promise<T> => answer,
): AsyncGenerator<string[]> {
  let cursor = '0'
  do {
    const [next, keys] = await limited(node.scan(cursor, 'MATCH', pattern, 'COUNT', SCANNED))
    yield keys
    cursor = next
  } while (cursor !== '0')
}
