// `HOST`, `HOST:PORT`, `[IPv6]`, `[IPv6]:PORT`: read in one place, for every file that names a server.
import { isIPv6 } from 'node:net'

/** A server as an operator names it. */
export interface HostPort {
  /** A name or an address as it was written, without brackets; may be empty, as in `:25`. */
  host: string
  /** It stood in brackets, and so is an IPv6 address. */
  bracketed: boolean
  /** 1 to 65535; undefined where none was written. */
  port: number | undefined
}

/** Throws an Error that says what is wrong and repeats nothing of the text, which may hold a password. */
export function parseHostPort(text: string): HostPort {
  const [, inBrackets, plain, digits] = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::([^:]*))?$/.exec(text) ?? []
  if (inBrackets === undefined && plain === undefined)
    throw new Error('unreadable host (IPv6 stands in brackets)')
  if (inBrackets !== undefined && !isIPv6(inBrackets)) throw new Error('no IPv6 address in the brackets')
  const port = digits === undefined ? undefined : Number(digits)
  if (port !== undefined && !(/^\d{1,5}$/.test(digits ?? '') && port >= 1 && port <= 65_535))
    throw new Error('bad port, 1 to 65535 is allowed')
  return { host: inBrackets ?? plain ?? '', bracketed: inBrackets !== undefined, port }
}
