// Who logs in, read from what a client says in a SASL dialogue (RFC 4422). A message that has not the exact form of its
// mechanism names nobody: what would be read there may be a password or a token.

/** What one message of a client holds. */
export interface SaslMessage {
  /** The user it names, as the client wrote it. */
  user?: string
  /** It holds a password, a token or a proof of one: the server looks at it and then knows. */
  proves: boolean
}

/** Octets of a name: RFC 4616 3 asks for no more, and tokens are longer. */
const LONGEST_NAME = 255

/** `text` where it can be a user's name; undefined for what is empty, too long, or has control characters (RFC 4013 2.3). */
export function userName(text: string | undefined): string | undefined {
  const name = text?.trim() ?? ''
  if (name === '' || Buffer.byteLength(name) > LONGEST_NAME || /[\x00-\x1f\x7f-\x9f]/.test(name))
    return undefined
  return name
}

/** A client's line without its base64. As lenient as Haraka's own auth plugins: what is no base64 is skipped. */
export const decodeBase64 = (line: string): string => Buffer.from(line, 'base64').toString('utf8')

/** True where a line is base64 (RFC 4648 4; the padding may be missing) or the `=` of an empty message (RFC 4954 4). */
export const isBase64 = (line: string): boolean => line === '=' || /^[A-Za-z0-9+/]*={0,2}$/.test(line)

const named = (text: string | undefined, proves: boolean): SaslMessage => {
  const user = userName(text)
  return user === undefined ? { proves } : { user, proves }
}

/** A name in a GS2 header or in SCRAM: `,` and `=` stand as `=2C` and `=3D` (RFC 5801 4). */
const saslName = (text: string | undefined): string | undefined =>
  text === undefined || /=(?!2C|3D)/.test(text)
    ? undefined
    : text.replaceAll('=2C', ',').replaceAll('=3D', '=')

/** `authzid NUL authcid NUL password` (RFC 4616). Haraka's plugins look at no more than that of a longer message. */
function plain(text: string): SaslMessage {
  const [, user, password] = text.split('\0')
  return user && password ? named(user, true) : { proves: false }
}

/** `user digest`, the digest in hex (RFC 2195). */
const cramMd5 = (text: string): SaslMessage =>
  named(/^(.+?) [0-9a-f]{32}(?: |$)/i.exec(text)?.[1], text !== '')

/** `user=NAME ^A auth=Bearer TOKEN ^A ^A` (Google's XOAUTH2). */
const xoauth2 = (text: string): SaslMessage =>
  named(/^user=([^\x01]*)\x01auth=[^\x01]+\x01\x01$/.exec(text)?.[1], hasToken(text))

/** `n,a=NAME,^A key=value ^A … ^A` (RFC 7628 3.1). Without `a=` only the token knows whose it is. */
const oauthBearer = (text: string): SaslMessage =>
  named(
    saslName(/^(?:[ny]|p=[\w.-]+),a=([^,\x01]*),\x01(?:[A-Za-z]+=[^\x01]*\x01)+\x01$/.exec(text)?.[1]),
    hasToken(text),
  )

/** Empty, or a lone ^A, is how a client says that it has read why its token was refused (RFC 7628 3.2.3). */
const hasToken = (text: string): boolean => text !== '' && text !== '\x01'

/** The first message names the user, `n,,n=NAME,r=NONCE`; the second, `c=…,r=…,p=PROOF`, proves (RFC 5802 5.1). */
function scram(text: string): SaslMessage {
  const first = /^(?:[ny]|p=[\w.-]+),(?:a=[^,]*)?,n=([^,]*),r=[^,]+(?:,|$)/.exec(text)
  return first ? named(saslName(first[1]), false) : { proves: text !== '' }
}

const MECHANISMS: Record<string, (text: string) => SaslMessage> = {
  PLAIN: plain,
  'CRAM-MD5': cramMd5,
  XOAUTH2: xoauth2,
  OAUTHBEARER: oauthBearer,
}

/**
 * Reads one message of any mechanism but LOGIN, whose messages can be told apart by their order alone. `mechanism` in
 * capitals, `text` without base64. Of an unknown mechanism every message may prove something, and none names anybody.
 */
export function readMessage(mechanism: string, text: string): SaslMessage {
  if (/^SCRAM-/.test(mechanism)) return scram(text)
  const read = Object.hasOwn(MECHANISMS, mechanism) ? MECHANISMS[mechanism] : undefined
  return read?.(text) ?? { proves: text !== '' }
}
