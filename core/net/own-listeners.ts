// Where this server itself listens, so that a next hop that leads back to us is seen as the loop that it is.
import { networkInterfaces } from 'node:os'
import { parseHostPort } from './host-port'
import { formatIp, parseIp } from './ip'

/** Whether a connection to this address and port would come back to this server. */
export type OwnListener = (ip: string, port: number) => boolean

/** From smtp.ini `[main]`: `listen = 192.0.2.1:25, [::]:587`, or `port` and `listen_host`; nothing: port 25 everywhere. */
export function ownListeners(main: Record<string, unknown> = {}): OwnListener {
  const texts = String(main['listen'] ?? '')
    .split(',')
    .map((text) => text.trim())
    .filter((text) => text !== '')
  if (main['port']) texts.push(`${main['listen_host'] ?? '[::]'}:${main['port']}`)
  if (texts.length === 0) texts.push('[::]:25')
  const listeners = texts.flatMap(listenerOf)
  return (ip, port) =>
    listeners.some((listener) => {
      if (listener.port !== port) return false
      const address = canonical(ip)
      // Who connects to no address in particular reaches this host itself.
      if (isAny(address)) return true
      return isAny(listener.ip) ? isOwnAddress(address) : listener.ip === address
    })
}

/** Nothing for a text that Haraka cannot listen on either: it does not start then. */
function listenerOf(text: string): { ip: string; port: number }[] {
  try {
    const { host, port = 25 } = parseHostPort(text)
    return [{ ip: canonical(host), port }]
  } catch {
    return []
  }
}

/** The one form of an address (RFC 5952); any other text as it is. */
function canonical(text: string): string {
  const ip = parseIp(text)
  return ip ? formatIp(ip) : text.toLowerCase()
}

const isAny = (ip: string): boolean => ip === '' || ip === '::' || ip === '0.0.0.0'

function isOwnAddress(ip: string): boolean {
  if (ip.startsWith('127.') || ip === '::1') return true
  return Object.values(networkInterfaces()).some((all) => all?.some(({ address }) => address === ip))
}
