// Real Redis servers on free ports in folders of their own: one, a cluster of three, a trio of sentinels.
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Redis } from 'ioredis'
import type { RedisSettings } from '../../core/redis/endpoint'
import { until } from './patience'
import { freePort } from './ports'

const running = new Set<ChildProcess>()
// Whatever way the test process ends, no server outlives it.
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

export { until } from './patience'

export class RedisServer {
  #child: ChildProcess | undefined
  #args: string[]

  private constructor(
    readonly port: number,
    readonly folder: string,
    args: string[],
  ) {
    this.#args = args
  }

  static async start(...args: string[]): Promise<RedisServer> {
    const server = new RedisServer(await freePort(), mkdtempSync(join(tmpdir(), 'redis-')), args)
    await server.up()
    return server
  }

  /** A sentinel that watches `master` under the name `mymaster`. It takes none that is only late for down. */
  static async sentinel(master: RedisServer): Promise<RedisServer> {
    const folder = mkdtempSync(join(tmpdir(), 'sentinel-'))
    const file = join(folder, 'sentinel.conf')
    writeFileSync(
      file,
      `sentinel monitor mymaster 127.0.0.1 ${master.port} 2
sentinel down-after-milliseconds mymaster 60000
sentinel failover-timeout mymaster 2000
`,
    )
    const server = new RedisServer(await freePort(), folder, [file, '--sentinel'])
    await server.up()
    return server
  }

  async up(): Promise<void> {
    const settings = ['--port', `${this.port}`, '--bind', '127.0.0.1', '--dir', this.folder]
    const quiet = ['--save', '', '--appendonly', 'no', '--logfile', join(this.folder, 'log')]
    const args = this.#args.includes('--sentinel')
      ? [...this.#args, ...settings]
      : [...settings, ...quiet, ...this.#args]
    const child = spawn('redis-server', args, { stdio: 'ignore' })
    // A test that fails before it cleans up must end all the same; the server then ends with the process.
    child.unref()
    running.add(child)
    this.#child = child
    const client = this.client()
    await until(async () => (await client.ping().catch(() => '')) === 'PONG', 'redis-server')
    client.disconnect()
  }

  /** A plain client of the test's own. Disconnect it. */
  client(): Redis {
    const client = new Redis(this.port, '127.0.0.1', {
      retryStrategy: () => 20,
      maxRetriesPerRequest: null,
      // A replica without its master answers, too.
      enableReadyCheck: false,
    })
    client.on('error', () => {})
    return client
  }

  /** Runs one command on a connection of its own. */
  async run(command: string, ...args: (string | number)[]): Promise<unknown> {
    const client = this.client()
    try {
      return await client.call(command, ...args)
    } finally {
      client.disconnect()
    }
  }

  hang(): void {
    this.#child?.kill('SIGSTOP')
  }

  goOn(): void {
    this.#child?.kill('SIGCONT')
  }

  /** Kills it; `up` starts it again, empty, on the same port. */
  async kill(): Promise<void> {
    const child = this.#child
    if (!child) return
    this.#child = undefined
    child.ref()
    const gone = once(child, 'exit')
    child.kill('SIGKILL')
    await gone
    running.delete(child)
  }

  async stop(): Promise<void> {
    await this.kill()
    rmSync(this.folder, { recursive: true, force: true })
  }

  get settings(): RedisSettings {
    return { ...noRedis, enabled: true, base: { host: '127.0.0.1', port: this.port } }
  }
}

/** Settings with Redis off. The timeout is for tests that are not about time: a Redis that is only late is no failure. */
export const noRedis: RedisSettings = {
  enabled: false,
  prefix: 'relay-guard:',
  timeout: 30_000,
  cluster: [],
  sentinel: [],
  sentinelName: 'mymaster',
  base: { host: '127.0.0.1', port: 6379 },
}

const hostsOf = (servers: RedisServer[]) => servers.map(({ port }) => ({ host: '127.0.0.1', port }))

/** A Redis Cluster of three masters. It takes none that is only late for lost. */
export async function startCluster(): Promise<{ nodes: RedisServer[]; settings: RedisSettings }> {
  const options = ['--cluster-enabled', 'yes']
  const nodes = await Promise.all([1, 2, 3].map(() => RedisServer.start(...options)))
  const addresses = nodes.map(({ port }) => `127.0.0.1:${port}`)
  await promisify(execFile)('redis-cli', ['--cluster', 'create', ...addresses, '--cluster-yes'])
  for (const node of nodes) {
    await until(async () => `${await node.run('CLUSTER', 'INFO')}`.includes('cluster_state:ok'), 'cluster')
  }
  return { nodes, settings: { ...noRedis, enabled: true, cluster: hostsOf(nodes) } }
}

export interface Trio {
  master: RedisServer
  replica: RedisServer
  sentinels: RedisServer[]
  settings: RedisSettings
}

/** A master, its replica, and three sentinels that know of both and of each other. */
export async function startSentinels(): Promise<Trio> {
  const master = await RedisServer.start('--repl-diskless-sync-delay', '0')
  const replica = await RedisServer.start('--replicaof', `127.0.0.1 ${master.port}`)
  const sentinels = await Promise.all([1, 2, 3].map(() => RedisServer.sentinel(master)))
  for (const sentinel of sentinels) {
    await until(async () => {
      const text = `${await sentinel.run('INFO', 'sentinel')}`
      return text.includes('slaves=1,sentinels=3')
    }, 'sentinels')
  }
  return { master, replica, sentinels, settings: { ...noRedis, enabled: true, sentinel: hostsOf(sentinels) } }
}
