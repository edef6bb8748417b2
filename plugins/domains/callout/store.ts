// What next hops have said of recipients, in Redis: over the connection that is there, and never waited for long.
import { within } from '../../../core/limiter/failover'
import { gatherWrites } from '../../../core/redis/connection'
import type { SharedRedis } from '../../../core/services'

/** What a store of recipients needs of its process. */
export interface RecipientStoreOptions {
  /** The connection by redis.ini in force; undefined without Redis. */
  redis(): SharedRedis | undefined
  /** False while Redis is known to be away: nothing is asked there then. */
  isUp(): boolean
  /** A command has failed; whether Redis is down is for others to find out. */
  onFailure(): void
}

/** The keys `recipient:{NAME}`. One a process. */
export class RecipientStore {
  constructor(private readonly options: RecipientStoreOptions) {}

  /** True where a question would be answered, as far as is known. */
  get isUp(): boolean {
    return this.options.redis()?.client.status === 'ready' && this.options.isUp()
  }

  /** The fields of one key, none where it is not there. Undefined: Redis cannot be asked, or does not answer in time. */
  async read(name: string): Promise<Record<string, string> | undefined> {
    const redis = this.options.redis()
    if (!redis || !this.isUp) return undefined
    gatherWrites(redis.client)
    try {
      return await within(redis.timeout, redis.client.hgetall(redis.keys.recipient(name)))
    } catch {
      this.options.onFailure()
      return undefined
    }
  }

  /** Writes the fields of one key, for `ttl` ms. Nobody waits for it; what fails is not written. */
  write(name: string, fields: Record<string, string>, ttl: number): void {
    const redis = this.options.redis()
    if (!redis || !this.isUp) return
    const key = redis.keys.recipient(name)
    const written = redis.client.multi().del(key).hset(key, fields).pexpire(key, ttl).exec()
    within(redis.timeout, written).catch(() => this.options.onFailure())
  }
}
