// `url = …` in a redis.ini: redis://, rediss:// (TLS) and unix: (a socket). Only here is anything percent-decoded.
import { ValueError } from '../text'

/** What a URL says; what it does not say is not there. */
export interface RedisUrl {
  host?: string
  port?: string
  /** A Unix socket. */
  path?: string
  username?: string
  password?: string
  database?: string
  tls: boolean
}

const ALLOWED = 'allowed: redis://, rediss:// or unix:, as redis://NAME:PASSWORD@HOST:PORT/DATABASE'

/**
 * `redis://[NAME:PASSWORD@]HOST[:PORT][/DATABASE]`, the same with `rediss://`, `unix://[NAME:PASSWORD@]/PATH[?db=N]`.
 * Throws ValueError, which repeats nothing of it.
 */
export function parseRedisUrl(text: string): RedisUrl {
  const isUnix = /^unix:/i.test(text)
  // A URL with a login must name a host, which a socket has none of.
  const url = tryUrl(isUnix ? text.replace(/^(unix:\/\/[^/]*@)(?=\/)/i, '$1localhost') : text)
  if (!url || !/^(?:rediss?|unix):$/.test(url.protocol))
    throw new ValueError(`the url cannot be read, ${ALLOWED}`)
  if (url.hash) throw new ValueError('the url has a #; in a name or password write %23')
  const others = [...url.searchParams.keys()].some((key) => key !== 'db')
  if (others) throw new ValueError('the url has an option behind its ? that is not known, allowed: db')
  const host = isUnix ? '' : decode(url.hostname.replace(/^\[(.*)\]$/, '$1'))
  const number = isUnix ? '' : url.pathname.slice(1)
  const database = number || url.searchParams.get('db') || ''
  if (database && !/^\d{1,9}$/.test(database))
    throw new ValueError('the url names a database that is not a number, allowed: 0 and above')
  if (isUnix && url.pathname.length < 2) throw new ValueError('the url names no socket, allowed: unix:/PATH')
  return {
    ...(host && { host }),
    ...(url.port && { port: url.port }),
    ...(isUnix && { path: decode(url.pathname) }),
    ...(url.username && { username: decode(url.username) }),
    ...(url.password && { password: decode(url.password) }),
    ...(database && { database }),
    tls: url.protocol === 'rediss:',
  }
}

function tryUrl(text: string): URL | undefined {
  try {
    return new URL(text)
  } catch {
    return undefined
  }
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw new ValueError('the url has a % that begins no %XX; for a % write %25')
  }
}
