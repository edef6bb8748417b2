// Where this server itself listens, so that a next hop that leads back to us is seen as the loop that it is.
import { isIPv6 } from 'node:net'
import { networkInterfaces } from 'node:os'

export type OwnListener = (ip: string, port: number) => boolean

/** From smtp.ini `[main]`: `listen = 192.0.2.1:25, [::]:587`, or `port` and `listen_host`; nothing: port 25 everywhere. */
export function ownListeners(main: Record<string, unknown> = {}): OwnListener {
  const texts = String(main['listen'] ?? '')
    .split(',')
    .map((text) => text.trim())
    .filter((text) => text !== '')
  if (main['port']) texts.push(`${main['listen_host'] ?? '[::]'}:${main['port']}`)
  if (texts.length === 0) texts.push('[::]:25')
  const listeners = texts.map((text) => {
    const [, bracketed, plain, port] = /^(?:\[([^\]]*)\]|([^:]*))(?::(\d+))?$/.exec(text) ?? []
    return { ip: bracketed ?? plain ?? '', port: Number(port ?? 25) }
  })
  return (ip, port) =>
    listeners.some((listener) => {
      if (listener.port !== port) return false
      if (/^[0:.]*$/.test(listener.ip)) return isOwnAddress(ip)
      return listener.ip === ip
    })
}

function isOwnAddress(ip: string): boolean {
  if (ip.startsWith('127.') || (isIPv6(ip) && ip === '::1')) return true
  return Object.values(networkInterfaces()).some((all) => all?.some(({ address }) => address === ip))
}
