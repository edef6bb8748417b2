// redis.ini → where Redis is, and what goes into the log stream.

import { join } from 'node:path'
import { type Fields, fieldsOf, knownSections, parseDuration } from '../ini/fields'
import type { FileError } from '../ini/files'
import { parseIni } from '../ini/parse'
import type { Reading } from '../ini/reading'
import { parseHostPort } from '../net/host-port'
import { harakaDir } from '../paths'
import { ValueError } from '../text'
import { type Endpoint, type Host, type RedisSettings, readBase } from './endpoint'
import { makeKeys } from './keys'

const FILE = 'redis.ini'
/** Haraka's own file of that name. */
const HARAKA_FILE = 'config/redis.ini'
/** What [redis] may say of one server; the same names as in Haraka's file. */
const ENDPOINT = ['host', 'port', 'path', 'username', 'password', 'database', 'url', 'tls']
/** A hook of ours may wait so long, in ms; Haraka gives up a plugin after 30 s. */
const LONGEST_WAIT = 5000

export interface LogSettings {
  /** Acceptances in the stream too. */
  accepted: boolean
  /** Entries that the stream keeps, about. */
  length: number
}

export interface RedisConfig extends RedisSettings {
  log: LogSettings
}

export function readRedis({ sections, errors, open }: Reading): RedisConfig {
  knownSections(FILE, sections, ['redis', 'log'], errors)
  const redis = fieldsOf(FILE, sections, 'redis', errors)
  const log = fieldsOf(FILE, sections, 'log', errors)
  const config: RedisConfig = {
    enabled: redis.flag('enabled', true),
    prefix: redis.read('prefix', 'relay-guard:', parsePrefix),
    timeout: redis.read('timeout', 250, parseTimeout),
    cluster: redis.list('cluster', (text) => parseHost(text, 6379)),
    sentinel: redis.list('sentinel', (text) => parseHost(text, 26_379)),
    sentinelName: redis.text('sentinel_name') || 'mymaster',
    base: readEndpoint(redis, open),
    log: { accepted: log.flag('accepted', false), length: log.read('length', 20_000, parseLength) },
  }
  if (config.cluster.length && config.sentinel.length)
    redis.wrong('sentinel', 'stands beside cluster; a server is under one of them')
  redis.done()
  log.done()
  return config
}

/** What [redis] says goes before Haraka's config/redis.ini, key by key. */
function readEndpoint(redis: Fields, open: Reading['open']): Endpoint {
  const own: Record<string, string> = {}
  const readers: Record<string, (text: string) => string> = { port: checkPort, database: checkDatabase }
  for (const key of ENDPOINT) {
    const text = redis.read(key, '', (given) => given && (readers[key]?.(given) ?? given))
    if (text !== '') own[key] = text
  }
  const haraka = readHarakaFile(redis, open)
  // A place given here is not led elsewhere by a way to name it that the other file uses.
  const place = ['host', 'port', 'path', 'url'].some((key) => own[key] !== undefined)
  if (place)
    for (const section of Object.values(haraka)) for (const key of ['url', 'path']) delete section[key]
  const fallback: Endpoint = { host: '127.0.0.1', port: 6379 }
  try {
    const base = readBase(haraka, own)
    if (!isPort(base.port)) throw new ValueError(`port ${NO_PORT}`)
    if (!isDatabase(base.database ?? 0)) throw new ValueError(`database ${NO_DATABASE}`)
    return base
  } catch (error) {
    const where = Object.keys(own).length ? `here or in ${HARAKA_FILE}` : `in ${HARAKA_FILE}`
    const problem = error instanceof ValueError ? error.problem : 'the url cannot be read'
    redis.wrong('', `cannot tell where Redis is, by what is said ${where}: ${problem}`)
    return fallback
  }
}

const NO_PORT = 'is not a port, allowed: 1 to 65535'
const NO_DATABASE = 'is not the number of a database, allowed: 0 and above'
const isDatabase = (database: number): boolean => Number.isInteger(database) && database >= 0

function checkPort(text: string): string {
  if (!/^\d{1,5}$/.test(text) || !isPort(Number(text))) throw new ValueError(NO_PORT, text)
  return text
}

function checkDatabase(text: string): string {
  if (!/^\d{1,9}$/.test(text)) throw new ValueError(NO_DATABASE, text)
  return text
}

/** Haraka's file as its own reader takes it, which knows no errors; one that was never there says nothing. */
function readHarakaFile(redis: Fields, open: Reading['open']): Record<string, Record<string, string>> {
  let text: string
  try {
    text = open(join(harakaDir(), HARAKA_FILE)).toString('utf8')
  } catch (error) {
    const { message, state } = error as FileError
    if (state !== 'missing') redis.wrong('', `${HARAKA_FILE} ${message}`)
    return {}
  }
  return Object.fromEntries(
    parseIni(HARAKA_FILE, text, []).map(({ name, entries }) => [
      name,
      Object.fromEntries(entries.map(({ key, value }) => [key, value ?? 'true'])),
    ]),
  )
}

const isPort = (port: number): boolean => Number.isInteger(port) && port > 0 && port < 65_536

/** `HOST`, `HOST:PORT` or `[IPv6]:PORT`. Throws Error. */
function parseHost(text: string, standard: number): Host {
  try {
    const { host, port = standard } = parseHostPort(text)
    if (host !== '' && !/[\s/]/.test(host)) return { host, port }
  } catch {
    // Said below, with what is allowed.
  }
  throw new ValueError('is not a host, allowed: HOST, HOST:PORT, [IPv6]:PORT', text)
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
