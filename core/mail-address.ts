// The canonical form in which domains and addresses are compared: lower case, ASCII (punycode), no trailing dot.
import { domainToASCII, domainToUnicode } from 'node:url'
import { memo } from './memo'
import { ValueError } from './text'

/** A host name in canonical form. Throws ValueError where the text is no host name (RFC 1035 2.3.4 for the lengths). */
export function normalDomain(text: string): string {
  // domainToASCII reads its text as the host of a URL: of `ex%61mple.com` and `example.com/x` it makes example.com.
  const isUrl = /[%/\\?#:@\x00-\x20]/.test(text)
  const name = isUrl ? '' : domainToASCII(text).toLowerCase().replace(/\.$/, '')
  const labels = name.split('.')
  const fits =
    name !== '' &&
    name.length <= 253 &&
    labels.every((l) => /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/.test(l))
  if (!fits || /^[\d.]+$/.test(name) || !labels.every(isPunycodeIfMarked))
    throw new ValueError('is not a domain name', text)
  return name
}

/**
 * True where a label begins with `xn--` and stands for another one, or does not begin so (RFC 5890 2.3.2.1). Node.js 20
 * refuses `xn--a` by itself, 24 takes it for a name.
 */
function isPunycodeIfMarked(label: string): boolean {
  if (!label.startsWith('xn--')) return true
  const unicode = domainToUnicode(label)
  return /[^\x00-\x7f]/.test(unicode) && domainToASCII(unicode) === label
}

/** The same for a client's text: undefined where it is no host name. '' stays ''. Cached: each is asked for many times. */
export const domainOf = memo((host): string | undefined => {
  try {
    return host === '' ? '' : normalDomain(host)
  } catch {
    return undefined
  }
})

/** The local part that a quoted one stands for: `"a\@b"` is `a@b` (RFC 5321 4.1.2). An unquoted one is returned as it is. */
export const unquoted = (local: string): string =>
  local.startsWith('"') && local.endsWith('"') && local.length > 1
    ? local.slice(1, -1).replace(/\\(.)/g, '$1')
    : local

/** A local part without its +tag, which is another name of the same mailbox. */
export const withoutTag = (local: string): string => local.replace(/(?<=.)\+.*$/, '')

/** An address from a file in canonical form: `Anna@Example.org` is `anna@example.org`. Throws ValueError where it is none. */
export function normalAddress(text: string): string {
  const at = text.lastIndexOf('@')
  const local = text.slice(0, at)
  const forbidden = local.startsWith('"') ? /[<>\x00-\x1f]/ : /[\s<>\x00-\x1f]/
  if (at < 1 || forbidden.test(local)) throw new ValueError('is not an address; write user@domain', text)
  return `${unquoted(local).toLowerCase()}@${normalDomain(text.slice(at + 1))}`
}
