// Redis, the limiter and the journal: one of each a process, whichever of our lines are loaded. The first plugin that
// loads starts them, the last that shuts down closes them.
import cluster from 'node:cluster'
import { Server, type Socket } from 'node:net'
import { forgetRefused } from './haraka/early-refusal'
import { onDecision } from './haraka/reply'
import type { Plugin } from './haraka/types'
import { hasWorkers } from './ini/host'
import { configurationHash, Setting } from './ini/reload'
import { Journal } from './journal'
import { Limiter, MemoryStore, serveMemory } from './limiter'
import { packageVersion } from './paths'
import { type RedisConfig, readRedis } from './redis/config'
import { type Client, closeRedis, openRedis } from './redis/connection'
import { printPlace } from './redis/endpoint'
import { type Keys, makeKeys } from './redis/keys'
import { registry } from './registry'

interface Services {
  /** Undefined in the master of workers, which takes no mail. */
  limiter: Limiter | undefined
  journal: Journal | undefined
}

/** What is running. Filled by the first `startServices`; the same until the process ends, through every reload. */
export const services: Services = { limiter: undefined, journal: undefined }

let users = 0
let config: Setting<RedisConfig> | undefined
let connections = 0

/** Called by each plugin of ours at `register`; `stopServices` is its counterpart. Errors in redis.ini stop the start. */
export function startServices(plugin: Plugin): void {
  if (users++ > 0) return
  const redis: Setting<RedisConfig> = new Setting(plugin, 'redis.ini', { read: readRedis }, () =>
    follow(redis.value),
  )
  config = redis
  const isMaster = cluster.isPrimary && hasWorkers(plugin)
  // The master of workers counts for them where there is no Redis.
  if (isMaster) serveMemory(new MemoryStore())
  else if (redis.value) start(plugin, redis)
}

function start(plugin: Plugin, redis: Setting<RedisConfig>): void {
  const settings = redis.value
  const log = (line: string) => plugin.lognotice(line)
  const version = packageVersion()
  const limiter = new Limiter({ settings, log, onForget: forgetRefused })
  const journal = new Journal({
    settings,
    stream: () => redis.value.log,
    state: () => ({
      version,
      store: limiter.source,
      connections,
      ...(registry.overloads && { overload: registry.overloads() }),
      configuration: configurationHash(),
    }),
    log,
    onFailure: () => limiter.checkRedis(),
  })
  Object.assign(services, { limiter, journal })
  share(settings)
  counting = storeOf(settings)
  onDecision((decision) => journal.note(decision))
}

/** What decides where is counted and written; the rest of redis.ini is asked for when it is needed. */
const storeOf = ({ log: _, ...settings }: RedisConfig): string => JSON.stringify(settings)
let counting = ''

/** redis.ini has changed: leases of open connections, and what is not written yet, go to the new place. */
function follow(settings: RedisConfig): void {
  const store = storeOf(settings)
  if (store === counting) return
  counting = store
  services.limiter?.use(settings)
  services.journal?.use(settings)
  if (services.journal) share(settings)
}

/** The process' connection to Redis, for whoever reads or writes keys of his own. */
export interface SharedRedis {
  client: Client
  keys: Keys
  /** How long an SMTP command may wait for it, ms. */
  timeout: number
}

let shared: SharedRedis | undefined

/** By redis.ini in force, so to be asked for at each use; undefined where it has `enabled = false`, and in a master. */
export const sharedRedis = (): SharedRedis | undefined => shared

/** Whether redis.ini, as it is in force, lets Redis be used. */
export const isRedisEnabled = (): boolean => config?.value?.enabled ?? false

function share(settings: RedisConfig | undefined): void {
  const before = shared
  shared = settings?.enabled
    ? { client: openRedis(settings), keys: makeKeys(settings.prefix), timeout: settings.timeout }
    : undefined
  if (before) void closeRedis(before.client)
}

/** Where is counted by redis.ini, for people: `Redis 10.0.0.5:6379`, `no Redis`. Never a password. */
export const printRedis = (): string =>
  config?.value?.enabled ? `Redis ${printPlace(config.value)}` : 'no Redis'

/** Called by each plugin of ours at `shutdown`: the last one gives back leases and the connection to Redis. */
export function stopServices(): void {
  if (--users > 0) return
  void services.limiter?.close()
  void services.journal?.close()
  share(undefined)
}

/** Counts the connections of a listener, for the node key. Guarded after that, those refused at accept() are not counted. */
export function countConnections(server: unknown): void {
  if (!(server instanceof Server)) return
  server.on('connection', (socket: Socket) => {
    connections++
    socket.once('close', () => connections--)
  })
}
