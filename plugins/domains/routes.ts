// Next hops as the operator writes them → routes for the next-hop client.

import { createHash, createHmac, randomBytes } from 'node:crypto'
import { isIP } from 'node:net'
import { networkInterfaces } from 'node:os'
import { type Fields, parseDuration } from '../../core/ini/fields'
import { readCertificates } from '../../core/ini/pem'
import type { Reading } from '../../core/ini/reading'
import type { OwnListener } from '../../core/net/own-listeners'
import { type NextHop, parseNextHop, printNextHop } from '../../core/next-hop/address'
import { DEFAULT_CONNECTIONS, type Route, type TlsMode } from '../../core/next-hop/route'
import { ValueError } from '../../core/text'

const TLS_MODES = ['none', 'may', 'encrypt', 'verify'] as const

/** A longer wait for the answer after the final dot, ms, would outlast Haraka's wait for our hook: see HOOK_TIMEOUT. */
export const LONGEST_FINAL = 3_600_000

const MOST_CONNECTIONS = 1_000

/** Reads `tls` or `smarthost_tls`. Where a next hop has a login and the key is not written: verify, for the password's sake. */
function readTls(fields: Fields, key: string, hops: NextHop[]): Pick<Route, 'tls' | 'tlsForLogin'> {
  const tls = fields.choice<TlsMode>(key, 'may', TLS_MODES)
  if (fields.has(key) || !hops.some(({ user }) => user !== undefined)) return { tls }
  return { tls: 'verify', tlsForLogin: true }
}

/**
 * Reads `next_hop`, `tls`, `connections`, `timeout` and `timeout_final` of a domain's section; undefined where no next
 * hop is given. `ca`: what readAuthorities returned.
 */
export function readRoute(
  fields: Fields,
  domain: string,
  { ownListener, hostName, ca }: { ownListener: OwnListener; hostName: string; ca: string },
): Route | undefined {
  let isMx = false
  const hops = fields.list('next_hop', (text) => {
    if (text.toLowerCase() !== 'mx') return readHop(text, ownListener)
    isMx = true
    return undefined
  })
  const how = {
    ...readTls(fields, 'tls', hops),
    connections: fields.read('connections', DEFAULT_CONNECTIONS, parseConnections),
    timeout: fields.duration('timeout', 30_000),
    timeoutFinal: fields.read('timeout_final', 600_000, parseFinal),
    ...(ca && { ca }),
  }
  if (isMx && hops.length > 0) fields.wrong('next_hop', 'mx stands alone')
  if (fields.isEmpty('next_hop')) fields.wrong('next_hop', 'is empty')
  if (isMx) return { key: keyOf(`mx:${domain}`, how), hops: () => betterMx(domain, hostName), ...how }
  if (hops.length === 0) return undefined
  return { key: keyOf(hops.map(nameOf).join(', '), how), hops, ...how }
}

/** Reads `smarthost` and `smarthost_tls`: where relayed mail goes; undefined where none is given. */
export function readSmarthost(fields: Fields, ownListener: OwnListener, ca: string): Route | undefined {
  const hops = fields.list('smarthost', (text) => readHop(text, ownListener))
  const how = {
    ...readTls(fields, 'smarthost_tls', hops),
    connections: DEFAULT_CONNECTIONS,
    timeout: 30_000,
    timeoutFinal: 600_000,
    ...(ca && { ca }),
  }
  if (hops.length === 0) return undefined
  return { key: keyOf(`smarthost ${hops.map(nameOf).join(', ')}`, how), hops, ...how }
}

/** Reads `tls_ca`, a PEM file, and returns its text; '' where none is given or an error was reported. */
export const readAuthorities = (fields: Fields, open: Reading['open']): string =>
  fields.read('tls_ca', '', (path) => (path === '' ? '' : readCertificates(open, path)))

function parseConnections(text: string): number {
  const connections = Number(text)
  if (/^\d{1,4}$/.test(text) && connections >= 1 && connections <= MOST_CONNECTIONS) return connections
  throw new ValueError(`is not a number of connections, allowed: 1 to ${MOST_CONNECTIONS}`, text)
}

function parseFinal(text: string): number {
  const ms = parseDuration(text)
  if (ms <= LONGEST_FINAL) return ms
  throw new ValueError("is too long, allowed: up to 1h, for so long Haraka's hook waits", text)
}

/**
 * Tells routes apart: those of one key share connections. Two logins at one host are two routes; neither name nor
 * password can be read from what may be printed.
 */
function keyOf(
  where: string,
  { tls, tlsForLogin, connections, timeout, timeoutFinal, ca }: Omit<Route, 'key' | 'hops'>,
): string {
  const authorities = ca ? ` ${createHash('sha256').update(ca).digest('hex').slice(0, 16)}` : ''
  // By the operator's own word it is kept to on loopback, too: no connection in clear is shared with it.
  const mode = tlsForLogin ? `${tls} for login` : tls
  return `${where} ${mode} ${connections} ${timeout} ${timeoutFinal}${authorities}`
}

const SECRET = randomBytes(32)

/** A next hop in the key of a route, which is logged: of its login a hash that says nothing outside of this process. */
function nameOf(hop: NextHop): string {
  if (hop.user === undefined) return printNextHop(hop)
  const login = JSON.stringify([hop.user, hop.password])
  return `${printNextHop(hop)} ${createHmac('sha256', SECRET).update(login).digest('hex').slice(0, 16)}`
}

function printWithoutLogin(hop: NextHop): string {
  const { user: _user, password: _password, ...place } = hop
  return printNextHop(place)
}

function readHop(text: string, own: OwnListener): NextHop {
  const hop = parseNextHop(text)
  const ip = hop.host === 'localhost' ? '127.0.0.1' : hop.host
  if (!hop.path && isIP(ip) && own(ip, hop.port))
    throw new ValueError(
      `${printWithoutLogin(hop)} is a listener of this server itself: mail would go round in a circle`,
    )
  return hop
}

/** The domain's own MX hosts that are preferred to this one; all of them where this one is none (RFC 5321 5.1). */
async function betterMx(domain: string, hostName: string): Promise<NextHop[]> {
  const { default: netUtils } = await import('haraka-net-utils')
  const all = [...(await netUtils.get_mx(domain))].sort((a, b) => a.priority - b.priority)
  const local = new Set(
    Object.values(networkInterfaces()).flatMap((each) => each?.map(({ address }) => address) ?? []),
  )
  const isUs = ({ exchange }: { exchange: string }) =>
    exchange.toLowerCase().replace(/\.$/, '') === hostName.toLowerCase() || local.has(exchange)
  const us = all.find(isUs)
  return all
    .filter((mx) => !isUs(mx) && (us === undefined || mx.priority < us.priority))
    .map(({ exchange }) => ({
      protocol: 'smtp',
      implicitTls: false,
      host: exchange.replace(/\.$/, ''),
      port: 25,
    }))
}
