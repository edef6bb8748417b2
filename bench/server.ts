// A Haraka under measurement: the process, its Redis, and what both have used so far.
import { setTimeout as sleep } from 'node:timers/promises'
import { type Haraka, startHaraka } from '../test/support/haraka'
import { RedisServer } from '../test/support/redis'
import { cpuOf } from './cpu'
import type { Setup } from './setup'

/** Longer than the batches (about one a second) in which what a session has caused goes to Redis later. */
export const BATCHES_MS = 1500

/** What was used between two looks. */
export interface Used {
  /** CPU of Haraka with its workers, and of its Redis, ms. */
  cpu: number
  redisCpu: number
}

/** A set-up that runs. */
export class Server {
  private constructor(
    readonly setup: Setup,
    readonly haraka: Haraka,
    readonly redis: RedisServer | undefined,
  ) {}

  /** Starts its Redis and Haraka, and prepares them. `sinkPort` is the next hop's. */
  static async start(setup: Setup, sinkPort: number): Promise<Server> {
    const redis = setup.redis ? await RedisServer.start() : undefined
    const { plugins, localPlugins, files, nodes } = setup
    const haraka = await startHaraka({
      plugins,
      ...(localPlugins && { localPlugins }),
      ...(nodes && { nodes }),
      files: {
        'log.ini': '[main]\nlevel=notice\n',
        ...files({ sinkPort, redisPort: redis?.port ?? 0 }),
      },
    })
    await setup.prepare?.(haraka.port, redis?.port ?? 0, sinkPort)
    return new Server(setup, haraka, redis)
  }

  /** Does the work and tells what it cost this server. */
  async measure<T>(work: () => Promise<T>): Promise<{ result: T; used: Used }> {
    const before = await this.#totals()
    const result = await work()
    const after = await this.#totals()
    return {
      result,
      used: { cpu: after.cpu - before.cpu, redisCpu: after.redisCpu - before.redisCpu },
    }
  }

  /** A line where Redis did not answer in time, so that the counters went on in memory: its figures are of both. */
  lostRedis(): string[] {
    const times = this.haraka.output().match(/redis: down/g)?.length ?? 0
    if (!this.redis || times === 0) return []
    return [`**${this.setup.name}** lost its Redis (${times} ×): the machine was too busy for a fair run`]
  }

  async stop(): Promise<void> {
    await this.haraka.stop()
    await this.redis?.stop()
  }

  /**
   * Every command that this server's Redis is sent while the work is done and shortly after, of whatever kind and on
   * whichever connection, but not those that its scripts call. Slow: not to be timed.
   */
  async commandsOf(work: () => Promise<unknown>): Promise<number> {
    if (!this.redis) return work().then(() => 0)
    const client = this.redis.client()
    const monitor = await client.monitor()
    let count = 0
    monitor.on('monitor', (_time: string, _command: string[], source: string) => {
      if (source !== 'lua') count++
    })
    await work()
    await sleep(BATCHES_MS)
    monitor.disconnect()
    client.disconnect()
    return count
  }

  async #totals(): Promise<Used> {
    const cpu = cpuOf(this.haraka.pid)
    if (!this.redis) return { cpu, redisCpu: 0 }
    const info = String(await this.redis.run('INFO', 'cpu'))
    const seconds = [...info.matchAll(/^used_cpu_(?:user|sys):([\d.]+)/gm)].map(([, value]) => Number(value))
    return { cpu, redisCpu: seconds.reduce((sum, each) => sum + each, 0) * 1000 }
  }
}
