// Next hops as the operator writes them → routes for the next-hop client.

import { isIP } from 'node:net'
import { networkInterfaces } from 'node:os'
import type { Fields } from '../../core/ini/fields'
import type { OwnListener } from '../../core/net/own-listeners'
import { type NextHop, parseNextHop, printNextHop } from '../../core/next-hop/address'
import type { Route, TlsMode } from '../../core/next-hop/route'

const TLS_MODES = ['none', 'may', 'encrypt', 'verify'] as const

/** Reads `next_hop`, `tls`, `timeout` and `timeout_final` of a domain's section; undefined where no next hop is given. */
export function readRoute(
  fields: Fields,
  domain: string,
  own: OwnListener,
  hostName: string,
): Route | undefined {
  const tls = fields.choice('tls', 'may', TLS_MODES)
  const timeout = fields.duration('timeout', 30_000)
  const timeoutFinal = fields.duration('timeout_final', 600_000)
  const how = `${tls} ${timeout} ${timeoutFinal}`
  let isMx = false
  const readNumbered = numbered((text) => readHop(text, own))
  const hops = fields.list('next_hop', (text) => {
    if (text.toLowerCase() !== 'mx') return readNumbered(text)
    isMx = true
    return undefined
  })
  if (isMx && hops.length > 0) fields.wrong('next_hop', 'mx stands alone')
  if (fields.isEmpty('next_hop')) fields.wrong('next_hop', 'is empty')
  if (!isMx && hops.length === 0) return undefined
  if (isMx)
    return { key: `mx:${domain} ${how}`, hops: () => betterMx(domain, hostName), tls, timeout, timeoutFinal }
  return { key: `${hops.map(routeKey).join(', ')} ${how}`, hops, tls, timeout, timeoutFinal }
}

/** Reads `smarthost`: where relayed mail goes. A password is never sent in the clear. */
export function readSmarthost(fields: Fields, own: OwnListener): Route | undefined {
  const hops = fields.list(
    'smarthost',
    numbered((text) => readHop(text, own)),
  )
  if (hops.length === 0) return undefined
  const tls: TlsMode = hops.some(({ user }) => user !== undefined) ? 'encrypt' : 'may'
  return {
    key: `smarthost ${hops.map(routeKey).join(', ')}`,
    hops,
    tls,
    timeout: 30_000,
    timeoutFinal: 600_000,
  }
}

/** Two logins at one host are two routes; the password itself stays out of what may be printed. */
const routeKey = (hop: NextHop): string => printNextHop(hop)

/** An error does not repeat a next hop, which may hold a password: of several it says the how manieth is meant. */
function numbered<T>(read: (text: string) => T): (text: string) => T {
  let number = 0
  return (text) => {
    number++
    try {
      return read(text)
    } catch (error) {
      throw number === 1 ? error : new Error(`number ${number}: ${(error as Error).message}`)
    }
  }
}

function printWithoutLogin(hop: NextHop): string {
  const { user: _user, password: _password, ...place } = hop
  return printNextHop(place)
}

function readHop(text: string, own: OwnListener): NextHop {
  const hop = parseNextHop(text)
  const ip = hop.host === 'localhost' ? '127.0.0.1' : hop.host
  if (!hop.path && isIP(ip) && own(ip, hop.port))
    throw new Error(
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
