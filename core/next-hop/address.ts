// A next hop as the operator writes it: smtp://host:25, smtps://, lmtp://, lmtp:unix:/path.
import { isIP, isIPv6 } from 'node:net'
import { domainToASCII } from 'node:url'
import { type HostPort, parseHostPort } from '../net/host-port'
import { ValueError } from '../text'

/** One host to deliver to. */
export interface NextHop {
  protocol: 'smtp' | 'lmtp'
  /** TLS from the first byte (smtps), without STARTTLS (RFC 8314 3). */
  implicitTls: boolean
  /** A name in ASCII, an IPv4 or an IPv6 address without brackets; `localhost` for a unix socket. */
  host: string
  /** 0 for a unix socket. */
  port: number
  /** The unix socket. */
  path?: string
  user?: string
  password?: string
}

const ALLOWED = 'allowed are smtp://HOST[:PORT], smtps://HOST[:PORT], lmtp://HOST[:PORT] and lmtp:unix:/PATH'
const PORTS: Record<string, number> = { smtp: 25, smtps: 465, lmtp: 24 }

/**
 * Reads `smtp://host[:25]`, `smtps://host[:465]`, `lmtp://host[:24]` or `lmtp:unix:/path`; `user:password@` may stand
 * before the host, percent-encoded, and IPv6 stands in brackets.
 * Throws an Error that says what is wrong and what is allowed. It repeats nothing of the text: a password may stand
 * anywhere in one that is not well-formed.
 */
export function parseNextHop(text: string): NextHop {
  const fail = (problem: string): never => {
    const hint = text.includes('@') ? ' (in a login , : / @ are written %2C %3A %2F %40)' : ''
    throw new ValueError(`${problem}${hint}; ${ALLOWED}`)
  }
  const unix = /^lmtp:unix:(.*)$/i.exec(text)
  if (unix) {
    const path = unix[1] ?? ''
    if (!path.startsWith('/') || path.includes('\0')) fail('the path of a unix socket must be absolute')
    if (path.includes('@')) fail('a unix socket has no login, and no @ in its path')
    return { protocol: 'lmtp', implicitTls: false, host: 'localhost', port: 0, path }
  }
  const [, scheme = '', rest = ''] = /^([a-z]+):\/\/(.*)$/i.exec(text) ?? fail('not a next hop')
  const name = scheme.toLowerCase()
  const defaultPort = Object.hasOwn(PORTS, name) ? PORTS[name] : undefined
  if (defaultPort === undefined) return fail('unknown scheme before ://')
  const at = rest.lastIndexOf('@')
  const target = rest.slice(at + 1)
  if (/[/?#]/.test(target)) fail('no path, query or fragment may follow the host')
  const { host, bracketed, port = defaultPort } = readTarget(target, fail)
  return {
    protocol: name === 'lmtp' ? 'lmtp' : 'smtp',
    implicitTls: name === 'smtps',
    host: bracketed ? host.toLowerCase() : readHost(host, fail),
    port,
    ...(at >= 0 && readLogin(rest.slice(0, at), fail)),
  }
}

/**
 * The text of a next hop; `parseNextHop` reads it back unless it has a login. That is shown as `***@`, without the
 * user's name: where the two are swapped it is the password.
 */
export function printNextHop(hop: NextHop): string {
  if (hop.path !== undefined) return `lmtp:unix:${hop.path}`
  const scheme = hop.implicitTls ? 'smtps' : hop.protocol
  return `${scheme}://${hop.user === undefined ? '' : '***@'}${printHost(hop)}`
}

/** Where a next hop is, for replies and logs: `host:port`, or the path of a unix socket. */
export const printHost = ({ path, host, port }: NextHop): string =>
  path ?? `${isIPv6(host) ? `[${host}]` : host}:${port}`

type Fail = (problem: string) => never

function readTarget(text: string, fail: Fail): HostPort {
  try {
    return parseHostPort(text)
  } catch (error) {
    return fail((error as Error).message)
  }
}

function readHost(text: string, fail: Fail): string {
  if (!text) return fail('the host is missing')
  const host = domainToASCII(text).replace(/\.$/, '')
  if (/^[\d.]+$/.test(text) && isIP(text) !== 4) fail('bad address')
  if (!/^(?!-)[a-z0-9_-]+(\.[a-z0-9_-]+)*$/.test(host) || host.length > 253) fail('bad host name')
  return host
}

function readLogin(text: string, fail: Fail): { user: string; password: string } {
  const [, user = '', password = ''] =
    /^([^:]*):(.*)$/.exec(text) ?? fail('a user needs a password, behind a colon')
  try {
    const login = { user: decodeURIComponent(user), password: decodeURIComponent(password) }
    if (!login.password) return fail('a user needs a password, behind a colon')
    // AUTH PLAIN separates by NUL (RFC 4616).
    if (!login.user || /[\0\r\n]/.test(login.user + login.password)) return fail('bad user or password')
    return login
  } catch (error) {
    if (error instanceof URIError) return fail('bad percent-encoding in user or password')
    throw error
  }
}
