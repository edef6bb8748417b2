// Where Redis is: config/redis.ini as haraka-plugin-redis reads it, and over it relay-guard/redis.ini [redis].
import { isIPv6 } from 'node:net'
import { normalize_endpoint, normalize_redis_ini } from 'haraka-plugin-redis'
import { parseHostPort } from '../net/host-port'
import { ValueError } from '../text'
import { parseRedisUrl } from './url'

/** Where a server listens. */
export interface Host {
  host: string
  port: number
}

/** What Node's TLS takes, PEM: without `ca` the system's authorities count. */
export interface TlsOptions {
  ca?: string
  cert?: string
  key?: string
}

/** How to reach one server, and with what name and password. */
export interface Endpoint extends Host {
  /** A Unix socket, instead of host and port. */
  path?: string
  username?: string
  password?: string
  database?: number
  tls?: TlsOptions
}

/** How to reach the sentinels, beside where they are. */
export interface SentinelAccess {
  username?: string
  password?: string
  tls?: TlsOptions
}

/** Where is counted and written, and how long that may take. */
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
  sentinelAccess?: SentinelAccess
  base: Endpoint
}

/** The sections of Haraka's file, and what [redis] of ours says of one server; values as they were written. */
export type Section = Record<string, unknown>

const textOf = (value: unknown): string | undefined =>
  value === undefined || value === null || value === '' ? undefined : String(value)

/** A boolean in the words that Haraka knows. */
const isTrue = (value: unknown): boolean => /^(?:true|yes|ok|enabled|on|1)$/i.test(String(value))

const NO_PORT = 'is not a port, allowed: 1 to 65535'
const NO_DATABASE = 'is not the number of a database, allowed: 0 and above'

/** 1 to 65535. Throws ValueError. */
export function parsePort(text: string): number {
  const port = Number(text)
  if (/^\d{1,5}$/.test(text) && port > 0 && port < 65_536) return port
  throw new ValueError(NO_PORT, text)
}

/** 0 and above. Throws ValueError. */
export function parseDatabase(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text)
  throw new ValueError(NO_DATABASE, text)
}

/** A name or an address, IPv6 with or without brackets. Returns it without. Throws ValueError. */
export function parseHostName(text: string): string {
  if (isIPv6(text)) return text
  try {
    const { host, port } = parseHostPort(text)
    if (port === undefined && host !== '' && !/[\s/@]/.test(host)) return host
  } catch {
    // Said below, with what is allowed.
  }
  throw new ValueError('is not a host, allowed: HOST or [IPv6]; the port has a key of its own', text)
}

/**
 * The absolute path of a Unix socket. No `@`: a login that came in here would be shown wherever the place is named.
 * Throws ValueError.
 */
export function parseSocketPath(text: string): string {
  if (text.startsWith('/') && !/[@\0]/.test(text)) return text
  throw new ValueError(
    'is not a socket, allowed: an absolute path without @; a server has the keys host and url',
  )
}

/** Names the key before its problem, for a key whose line is not known. */
function read<T>(key: string, text: string, parse: (text: string) => T): T {
  try {
    return parse(text)
  } catch (error) {
    throw error instanceof ValueError ? new ValueError(`${key} ${error.problem}`) : error
  }
}

/**
 * Where Redis is. `redisIni`: the sections of config/redis.ini, of which [opts] and [server] count. `own`: what
 * relay-guard/redis.ini [redis] says of host, port, path, username, password, database, url and tls; it goes first, key
 * by key, and a `url` before its neighbours. Throws ValueError, which repeats nothing of what was read.
 */
export function readBase(redisIni: Record<string, unknown>, own: Section): Endpoint {
  const { server, database } = normalize_redis_ini(redisIni)
  const { socket, ...rest } = normalize_endpoint({
    ...(database !== undefined && { database }),
    ...server,
    ...own,
  })
  const given = textOf(rest['url'])
  const url = given === undefined ? undefined : parseRedisUrl(given)
  const path = url ? url.path : textOf(socket['path'])
  const username = url?.username ?? textOf(rest['username'])
  const password = url?.password ?? textOf(rest['password'])
  const number = url?.database ?? textOf(rest['database'] ?? rest['db'])
  const tls =
    url?.tls || isTrue(socket['tls']) || (typeof socket['tls'] === 'object' && socket['tls'] !== null)
  return {
    host: read('host', url?.host ?? textOf(socket['host']) ?? '127.0.0.1', parseHostName),
    port: read('port', url?.port ?? textOf(socket['port']) ?? '6379', parsePort),
    ...(path !== undefined && { path: read('path', path, parseSocketPath) }),
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    ...(number !== undefined && { database: read('database', number, parseDatabase) }),
    ...(tls && { tls: {} }),
  }
}

const printHost = ({ host, port }: Host): string => `${host.includes(':') ? `[${host}]` : host}:${port}`

/** Where Redis is, for people: `10.0.0.5:6379`, a socket's path, `cluster HOST:PORT, …` or `sentinel NAME`; no password. */
export function printPlace({ cluster, sentinel, sentinelName, base }: RedisSettings): string {
  if (cluster.length) return `cluster ${cluster.map(printHost).join(', ')}`
  if (sentinel.length) return `sentinel ${sentinelName}`
  return base.path ?? printHost(base)
}
