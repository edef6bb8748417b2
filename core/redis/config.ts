// redis.ini → where Redis is, and what goes into the log stream.

import { type Fields, fieldsOf, knownSections, parseDuration } from '../ini/fields'
import type { FileError } from '../ini/files'
import type { Reading } from '../ini/reading'
import { parseHostPort } from '../net/host-port'
import { ValueError } from '../text'
import {
  type Endpoint,
  type Host,
  parseDatabase,
  parseHostName,
  parsePort,
  parseSocketPath,
  type RedisSettings,
  readBase,
  type SentinelAccess,
} from './endpoint'
import { type HarakaSection, parseHarakaIni } from './haraka-ini'
import { makeKeys } from './keys'
import { readTlsFiles } from './tls'
import { parseRedisUrl } from './url'

const FILE = 'redis.ini'
/** Haraka's own file of that name. */
const HARAKA_FILE = 'config/redis.ini'
/** What [redis] may say of one server; the same names as in Haraka's file. */
const ENDPOINT = ['host', 'port', 'path', 'username', 'password', 'database', 'url']
/** A hook of ours may wait so long, in ms; Haraka gives up a plugin after 30 s. */
const LONGEST_WAIT = 5000

/** redis.ini [log]. */
export interface LogSettings {
  /** Acceptances in the stream too. */
  accepted: boolean
  /** Entries that the stream keeps, about. */
  length: number
}

/** All of redis.ini. */
export interface RedisConfig extends RedisSettings {
  log: LogSettings
}

/** Reads redis.ini, and Haraka's config/redis.ini and the PEM files with it. Errors go to the reading. */
export function readRedis({ sections, errors, open }: Reading): RedisConfig {
  knownSections(FILE, sections, ['redis', 'log'], errors)
  const redis = fieldsOf(FILE, sections, 'redis', errors)
  const log = fieldsOf(FILE, sections, 'log', errors)
  const base = readEndpoint(redis, open)
  const access = readSentinelAccess(redis)
  const config: RedisConfig = {
    enabled: redis.flag('enabled', true),
    prefix: redis.read('prefix', 'relay-guard:', parsePrefix),
    timeout: redis.read('timeout', 250, parseTimeout),
    cluster: redis.list('cluster', (text) => parseHost(text, 6379)),
    sentinel: redis.list('sentinel', (text) => parseHost(text, 26_379)),
    sentinelName: redis.read('sentinel_name', 'mymaster', parseSentinelName),
    base,
    log: { accepted: log.flag('accepted', false), length: log.read('length', 20_000, parseLength) },
  }
  if (access) config.sentinelAccess = access
  addTlsFiles(redis, open, config)
  if (config.cluster.length && config.sentinel.length)
    redis.wrong('sentinel', 'stands beside cluster; a server is under one of them')
  if (config.cluster.length && base.database)
    redis.wrong(
      'cluster',
      `has no meaning with a database other than 0, as database or url names here or in ${HARAKA_FILE}: a Redis Cluster has no other`,
    )
  redis.done()
  log.done()
  return config
}

function readSentinelAccess(redis: Fields): SentinelAccess | undefined {
  const username = redis.text('sentinel_username')
  const password = redis.text('sentinel_password')
  const access: SentinelAccess = {
    ...(username && { username }),
    ...(password && { password }),
    ...(redis.flag('sentinel_tls', false) && { tls: {} }),
  }
  return Object.keys(access).length ? access : undefined
}

/** The same files for Redis and its sentinels, each where TLS is on. */
function addTlsFiles(redis: Fields, open: Reading['open'], { base, sentinelAccess }: RedisConfig): void {
  const files = readTlsFiles(redis, open)
  if (base.tls) base.tls = files
  if (sentinelAccess?.tls) sentinelAccess.tls = files
  const [given] = ['tls_ca', 'tls_cert', 'tls_key'].filter((key) => redis.has(key) && !redis.isEmpty(key))
  if (given && !base.tls && !sentinelAccess?.tls)
    redis.wrong(given, 'has no meaning without tls = true, sentinel_tls = true or a rediss: url')
}

/** What [redis] says goes before Haraka's config/redis.ini, key by key. */
function readEndpoint(redis: Fields, open: Reading['open']): Endpoint {
  const own: Record<string, string> = {}
  const check: Record<string, (text: string) => unknown> = {
    host: parseHostName,
    port: parsePort,
    path: parseSocketPath,
    database: parseDatabase,
    url: parseRedisUrl,
  }
  let wrong = 0
  for (const key of ENDPOINT) {
    const text = redis.read(key, '', (given) => {
      wrong++
      if (given) check[key]?.(given)
      wrong--
      return given
    })
    if (text !== '') own[key] = text
  }
  if (redis.has('tls') && !redis.isEmpty('tls')) own['tls'] = String(redis.flag('tls', false))
  const haraka = readHarakaFile(redis, open)
  if (wrong) return FALLBACK()
  // A place given here is not led elsewhere by a way to name it that the other file uses.
  const isPlace = ['host', 'port', 'path', 'url'].some((key) => own[key] !== undefined)
  const drop = own['url'] === undefined ? ['url', 'path'] : ['url', 'path', 'host', 'ip', 'port']
  if (isPlace) for (const section of Object.values(haraka)) for (const key of drop) delete section[key]
  try {
    return readBase(haraka, own)
  } catch (error) {
    const problem = error instanceof ValueError ? error.problem : 'it cannot be read'
    redis.wrong('', `cannot tell where Redis is, by what is said in ${HARAKA_FILE}: ${problem}`)
    return FALLBACK()
  }
}

/** Stands in where an error was reported. */
const FALLBACK = (): Endpoint => ({ host: '127.0.0.1', port: 6379 })

/** Haraka's file; one that was never there says nothing. */
function readHarakaFile(redis: Fields, open: Reading['open']): Record<string, HarakaSection> {
  try {
    return parseHarakaIni(open(HARAKA_FILE).toString('utf8'))
  } catch (error) {
    const { message, state } = error as FileError
    if (state !== 'missing') redis.wrong('', `${HARAKA_FILE} ${message}`)
    return {}
  }
}

/** `HOST`, `HOST:PORT` or `[IPv6]:PORT`. Throws ValueError. */
function parseHost(text: string, standard: number): Host {
  try {
    const { host, port = standard } = parseHostPort(text)
    if (host !== '' && !/[\s/@]/.test(host)) return { host, port }
  } catch {
    // Said below, with what is allowed.
  }
  throw new ValueError('is not a host, allowed: HOST, HOST:PORT, [IPv6]:PORT', text)
}

/** What Sentinel itself takes for the name of a master. Throws ValueError. */
function parseSentinelName(text: string): string {
  if (/^[\w.-]*$/.test(text)) return text || 'mymaster'
  throw new ValueError('is not the name of a master, allowed: letters, digits and . - _', text)
}

function parsePrefix(text: string): string {
  if (!/^[\x21-\x7e]{1,64}$/.test(text))
    throw new ValueError('is not a prefix, allowed: up to 64 printable characters without spaces', text)
  makeKeys(text)
  return text
}

function parseTimeout(text: string): number {
  const ms = parseDuration(text)
  if (ms < 10 || ms > LONGEST_WAIT) throw new ValueError('is out of range, allowed: 10ms to 5s', text)
  return ms
}

function parseLength(text: string): number {
  const length = Number(text)
  if (!/^\d{1,8}$/.test(text) || length < 100)
    throw new ValueError('is not a length, allowed: 100 to 99999999 entries', text)
  return length
}
