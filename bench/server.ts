// A Haraka under measurement: the process, its Redis, and what both have used so far.
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Haraka, startHaraka } from '../test/support/haraka'
import { RedisServer } from '../test/support/redis'
import type { Setup } from './setups'

/** The kernel's clock tick in which /proc counts CPU time, a second's hundredth on every Linux. */
const TICK_MS = 10

/** Milliseconds of CPU, user and system, that a process has used. */
function cpuOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS
}

/** What was used between two looks. */
export interface Used {
  /** CPU of Haraka and of its Redis, ms. */
  cpu: number
  redisCpu: number
}

export class Server {
  private constructor(
    readonly setup: Setup,
    readonly haraka: Haraka,
    private readonly redis: RedisServer | undefined,
  ) {}

  static async start(setup: Setup, sinkPort: number): Promise<Server> {
    const redis = setup.redis ? await RedisServer.start() : undefined
    const { plugins, localPlugins, files } = setup
    const haraka = await startHaraka({
      plugins,
      ...(localPlugins && { localPlugins }),
      files: {
        'log.ini': '[main]\nlevel=notice\n',
        ...files({ sinkPort, redisPort: redis?.port ?? 0 }),
      },
    })
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

  async stop(): Promise<void> {
    await this.haraka.stop()
    await this.redis?.stop()
  }

  /** The Redis commands that the work sends, without those that its scripts call. Slow: not to be timed. */
  async commandsOf(work: () => Promise<unknown>): Promise<number> {
    if (!this.redis) return work().then(() => 0)
    const client = this.redis.client()
    const monitor = await client.monitor()
    let count = 0
    monitor.on('monitor', (_time: string, _command: string[], source: string) => {
      if (source !== 'lua') count++
    })
    await work()
    // Connections are closed to the client a little before Haraka is done with them.
    await sleep(100)
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
