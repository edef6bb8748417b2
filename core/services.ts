// Redis, the limiter and the journal: one of each a process, whichever of our lines are loaded. The first plugin that
// loads starts them, the last that shuts down closes them.
import cluster from 'node:cluster'
import { onDecision } from './haraka/reply'
import type { Connection, Plugin } from './haraka/types'
import { configurationHash, Setting } from './ini/reload'
import { Journal } from './journal'
import { Limiter, MemoryStore, serveMemory } from './limiter'
import { packageVersion } from './paths'
import { type RedisConfig, readRedis } from './redis/config'

interface Services {
  /** Undefined in the master of workers, which takes no mail. */
  limiter: Limiter | undefined
  journal: Journal | undefined
}

/** What is running. Filled by the first `startServices`, and anew when redis.ini has changed. */
export const services: Services = { limiter: undefined, journal: undefined }

let users = 0
const open = new WeakSet<Connection>()
let connections = 0

/** Called by each plugin of ours at `register`; `stopServices` is its counterpart. Errors in redis.ini stop the start. */
export function startServices(plugin: Plugin): void {
  if (users++ > 0) return
  const smtp = plugin.config.get('smtp.ini') as { main?: { nodes?: unknown } } | undefined
  // As Haraka does: without the key one worker, and with anything that is nothing no master.
  const nodes = smtp?.main?.nodes ?? 1
  const begin = () => {
    if (cluster.isWorker || !nodes) start(plugin, redis.value)
  }
  const redis: Setting<RedisConfig> = new Setting(plugin, 'redis.ini', { read: readRedis }, begin)
  // The master of workers counts for them where there is no Redis.
  if (cluster.isPrimary && nodes) serveMemory(new MemoryStore())
  if (redis.value) begin()
}

/** Begins, or begins anew after redis.ini has changed. What was counted where it was counted before stays there. */
function start(plugin: Plugin, settings: RedisConfig): void {
  const before = { ...services }
  const log = (line: string) => plugin.lognotice(line)
  const version = packageVersion()
  const limiter = new Limiter({ settings, log })
  const journal = new Journal({
    settings,
    stream: () => settings.log,
    state: () => ({ version, store: limiter.source, connections, configuration: configurationHash() }),
    log,
  })
  Object.assign(services, { limiter, journal })
  onDecision((decision) => journal.note(decision))
  void before.limiter?.close()
  void before.journal?.close()
}

/** Called by each plugin of ours at `shutdown`: the last one gives back leases and the connection to Redis. */
export function stopServices(): void {
  if (--users > 0) return
  void services.limiter?.close()
  void services.journal?.close()
}

/** A connection came; again it counts nothing (XCLIENT and PROXY run the hook once more). */
export function connectionOpened(connection: Connection): void {
  if (open.has(connection)) return
  open.add(connection)
  connections++
}

/** It ended. */
export function connectionClosed(connection: Connection): void {
  if (open.delete(connection)) connections--
}
