// Where Redis is: config/redis.ini as haraka-plugin-redis reads it, and over it relay-guard/redis.ini [redis].
import { normalize_endpoint, normalize_redis_ini } from 'haraka-plugin-redis'

export interface Host {
  host: string
  port: number
}

/** How to reach one server, and with what name and password. */
export interface Endpoint extends Host {
  /** A Unix socket, instead of host and port. */
  path?: string
  username?: string
  password?: string
  database?: number
  tls?: Record<string, unknown>
}

export interface RedisSettings {
  /** False: counters in memory only. */
  enabled: boolean
  prefix: string
  /** How long the command of an SMTP client may wait for Redis, in ms. */
  timeout: number
  /** Not empty: a Redis Cluster. */
  cluster: Host[]
  /** Not empty: Redis under Sentinel. */
  sentinel: Host[]
  sentinelName: string
  base: Endpoint
}

const text = (value: unknown): string | undefined =>
  value === undefined || value === null || value === '' ? undefined : String(value)

const isTrue = (value: unknown): boolean => /^(true|yes|on|1)$/i.test(String(value))

function readTls(value: unknown): Record<string, unknown> | undefined {
  if (typeof value === 'object' && value !== null) return { ...value }
  return isTrue(value) ? {} : undefined
}

/** Where one server is, from haraka-plugin-redis' normal form. Its `url`, if there is one, goes before the rest. */
function readEndpoint({
  socket,
  ...rest
}: Record<string, unknown> & { socket: Record<string, unknown> }): Endpoint {
  const url = text(rest.url) === undefined ? undefined : new URL(String(rest.url))
  const path = text(socket.path)
  const username = url?.username || text(rest.username)
  const password = url?.password || text(rest.password)
  const database = url?.pathname.slice(1) || text(rest.database ?? rest.db)
  const tls = url?.protocol === 'rediss:' ? {} : readTls(socket.tls)
  return {
    host: url?.hostname || text(socket.host) || '127.0.0.1',
    port: Number(url?.port || text(socket.port) || 6379),
    ...(path !== undefined && { path }),
    ...(username !== undefined && { username: decodeURIComponent(username) }),
    ...(password !== undefined && { password: url?.password ? decodeURIComponent(password) : password }),
    ...(database !== undefined && { database: Number(database) }),
    ...(tls && { tls }),
  }
}

/**
 * Where Redis is. `redisIni`: config/redis.ini as Haraka reads it, of which [opts] and [server] count. `own`: what
 * relay-guard/redis.ini [redis] says of host, port, path, username, password, database, url and tls; it goes first.
 */
export function readBase(redisIni: Record<string, unknown>, own: Record<string, unknown>): Endpoint {
  const { server, database } = normalize_redis_ini(redisIni)
  return readEndpoint(normalize_endpoint({ ...(database !== undefined && { database }), ...server, ...own }))
}

const printHost = ({ host, port }: Host): string => `${host.includes(':') ? `[${host}]` : host}:${port}`

/** Where Redis is, for people: `10.0.0.5:6379`, a socket's path, `cluster HOST:PORT, …` or `sentinel NAME`; no password. */
export function printPlace({ cluster, sentinel, sentinelName, base }: RedisSettings): string {
  if (cluster.length) return `cluster ${cluster.map(printHost).join(', ')}`
  if (sentinel.length) return `sentinel ${sentinelName}`
  return base.path ?? printHost(base)
}
