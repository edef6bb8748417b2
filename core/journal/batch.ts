// One batch: a command a key, so that on a Cluster each finds its node, and what became of each.
import type { Client } from '../redis/connection'
import { isForGood, wasNotRun } from '../redis/errors'
import { loadScript, run } from '../redis/script'

/** Members of a `top` set. */
const KEPT = 1000

const tallyScript = loadScript(__dirname, 'tally')
const appendScript = loadScript(__dirname, 'append')

/** One command of a batch. */
export interface Write {
  /** Sends it. Resolves with '' or with why some of it can never be written. */
  send(client: Client): Promise<unknown>
  /** Redis did nothing of it: it is kept for the next batch. */
  putBack(): void
}

/** What became of a batch. */
export interface Outcome {
  /** The last error after which all that it concerns was put back, if there was one. */
  kept?: unknown
  /** The last error after which something is lost: nobody knows whether it was written, or it can never be. */
  lost?: unknown
}

/** Sends all at once. What Redis did not do is put back; what it may have done is not, so nothing is counted twice. */
export async function sendBatch(client: Client, writes: Write[]): Promise<Outcome> {
  const outcome: Outcome = {}
  const results = await Promise.allSettled(writes.map((write) => write.send(client)))
  for (const [i, result] of results.entries()) {
    if (result.status === 'fulfilled') {
      if (typeof result.value === 'string' && result.value !== '') outcome.lost = new Error(result.value)
    } else if (wasNotRun(result.reason) && !isForGood(result.reason)) {
      writes[i]?.putBack()
      outcome.kept = result.reason
    } else outcome.lost = result.reason
  }
  return outcome
}

/** Adds pairs to a hash (`HINCRBY`, `HSET`: field and value) or a sorted set (`ZINCRBY`: count and member). `ttl`: s. */
export const addTo =
  (key: string, command: 'HINCRBY' | 'HSET' | 'ZINCRBY', ttl: number, pairs: unknown[][]) =>
  (client: Client): Promise<unknown> =>
    run(client, tallyScript, [key], [command, ttl, KEPT, ...pairs.flat().map(String)])

/** Adds entries to a stream, of which about `length` are kept. */
export const appendTo =
  (key: string, length: number, entries: string[][]) =>
  (client: Client): Promise<unknown> =>
    run(client, appendScript, [key], [length, ...entries.flatMap((entry) => [entry.length, ...entry])])
