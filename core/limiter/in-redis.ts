// Redis as the place where a process counts: the connection, the store on it with memory behind it, and what is heard there.
import { type Client, closeRedis, openRedis } from '../redis/connection'
import { printPlace, type RedisSettings } from '../redis/endpoint'
import { type Hearer, Listener } from '../redis/listener'
import type { Lease, Store } from './contract'
import { Failover, START, within } from './failover'
import { RedisStore } from './redis-store'

/** What it needs of the limiter. */
export interface InRedisOptions {
  settings: RedisSettings
  /** Counts while Redis is away. */
  memory: Store
  log(line: string): void
  /** The leases that this process holds. */
  held(): Lease[]
  hearer: Hearer
  /** See `RedisStoreOptions`. */
  onClockStep(): void
  /** Until this has settled nothing is asked of this Redis. */
  after?: Promise<unknown>
}

/** One Redis while it is in use. */
export class InRedis {
  readonly connection: Client
  readonly failover: Failover
  #store: RedisStore
  #listener: Listener
  #timeout: number
  #stop: () => void

  constructor({ settings, memory, log, held, hearer, onClockStep, after }: InRedisOptions) {
    const { timeout, prefix } = settings
    const connection = openRedis(settings)
    this.connection = connection
    this.#timeout = timeout
    this.#store = new RedisStore(connection, { prefix, timeout, onClockStep })
    this.failover = new Failover(this.#store, memory, {
      name: 'redis',
      where: printPlace(settings),
      timeout,
      log,
      held,
      ...(after && { after }),
    })
    const check = () => void this.failover.check()
    const timer = setTimeout(check, START + 50).unref()
    connection.on('ready', check).on('close', check)
    if (connection.status === 'ready') check()
    this.#listener = new Listener(connection, prefix, hearer)
    this.#stop = () => {
      clearTimeout(timer)
      connection.off('ready', check).off('close', check)
    }
  }

  /** Hears nothing from now on: what was taken in advance is on its way back. */
  stopListening(): void {
    this.#listener.close()
  }

  /** Asks nothing from now on. */
  stop(): void {
    this.stopListening()
    this.#stop()
    this.failover.close()
  }

  /** Gives back leases, and the connection. */
  async close(leases: Lease[] = []): Promise<void> {
    if (leases.length) await within(this.#timeout, this.#store.release(leases)).catch(() => {})
    await closeRedis(this.connection)
  }
}
