// Asks Redis about domains, before a decision needs them. Nothing waits longer than redis.ini's `timeout`, and not at all
// where Redis is known to be away.
import { Redis } from 'ioredis'
import { within } from '../../../core/limiter/failover'
import { type Client, gatherWrites, whenReady, whyAway } from '../../../core/redis/connection'
import { isForGood, printError } from '../../../core/redis/errors'
import type { SharedRedis } from '../../../core/services'
import type { DomainAnswer, KnownDomains } from './known'

/** After a failure nobody waits for so long, ms. */
const REST = 1000

/** What a look-up needs. */
export interface LookUpOptions {
  known: KnownDomains
  /** The connection in force; undefined where redis.ini has `enabled = false`. */
  redis(): SharedRedis | undefined
  log(line: string): void
  now?: () => number
}

/** The questions of one worker: one at a time for each name. */
export class DomainLookUp {
  readonly #asked = new Map<string, Promise<void>>()
  readonly #now: () => number
  #restsUntil = 0
  /** A connection that had its time to be made: from then on nobody waits for it while it is away. */
  #met: Client | undefined
  #isDown = false

  constructor(private readonly options: LookUpOptions) {
    this.#now = options.now ?? (() => performance.now())
  }

  /** Resolves, always, when what can be known of these names is known. Undefined: there is nothing to wait for. */
  lookUp(names: Iterable<string>): Promise<unknown> | undefined {
    const waits = new Set<Promise<void>>()
    const open: string[] = []
    for (const name of names) {
      if (this.options.known.isFresh(name)) continue
      const asked = this.#asked.get(name)
      if (asked) waits.add(asked)
      else open.push(name)
    }
    const question = open.length > 0 && this.#ask(new Set(open))
    if (question) waits.add(question)
    return waits.size > 0 ? Promise.all(waits) : undefined
  }

  #ask(names: Set<string>): Promise<void> | undefined {
    const redis = this.options.redis()
    const askedAt = this.#now()
    if (!redis) this.#tellDown('redis.ini: enabled = false')
    if (!redis || askedAt < this.#restsUntil) return undefined
    const { client, timeout } = redis
    if (client.status !== 'ready' && this.#met === client) {
      this.#tellDown(whyAway(client))
      return undefined
    }
    const question = within(timeout, this.#learn(redis, [...names], askedAt))
      .catch((error) => this.#fail(client, error))
      .finally(() => {
        for (const name of names) this.#asked.delete(name)
      })
    for (const name of names) this.#asked.set(name, question)
    return question
  }

  async #learn({ client, keys, timeout }: SharedRedis, names: string[], askedAt: number): Promise<void> {
    if (client.status !== 'ready') await whenReady(client, timeout)
    this.#met = client
    const answers = await hashesOf(
      client,
      names.map((name) => keys.domain(name)),
    )
    let failure: Error | undefined
    for (const [at, name] of names.entries()) {
      const answer = answers[at]!
      if (answer instanceof Error && !isForGood(answer)) failure ??= answer
      else this.options.known.learn(name, answerOf(answer), askedAt)
    }
    if (failure) throw failure
    if (this.#isDown) this.options.log('domains in Redis: back')
    this.#isDown = false
    this.#restsUntil = 0
  }

  #fail(client: Client, error: unknown): void {
    this.#met = client
    this.#restsUntil = this.#now() + REST
    this.#tellDown(printError(error))
  }

  #tellDown(why: string): void {
    if (!this.#isDown)
      this.options.log(`domains in Redis: cannot be looked up (${why}); those not known yet get 451`)
    this.#isDown = true
  }
}

const answerOf = (answer: Record<string, string> | Error): DomainAnswer => {
  if (answer instanceof Error) return 'no hash'
  return Object.keys(answer).length > 0 ? answer : 'none'
}

/** All in one round trip, each with its hash or its error. On a Cluster each key may be on another node. */
export async function hashesOf(client: Client, keys: string[]): Promise<(Record<string, string> | Error)[]> {
  gatherWrites(client)
  if (!(client instanceof Redis) || keys.length === 1)
    return Promise.all(keys.map((key) => client.hgetall(key).catch((error: Error) => error)))
  const pipeline = client.pipeline()
  for (const key of keys) pipeline.hgetall(key)
  const answers = (await pipeline.exec()) ?? []
  return answers.map(([error, hash]) => error ?? (hash as Record<string, string>))
}
