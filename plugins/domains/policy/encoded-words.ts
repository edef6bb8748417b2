// Encoded words of a header field (RFC 2047), in every way that some reader may show them.

/** Readers take more for an encoded word than RFC 2047 does: blanks, quotes and parentheses in it, and any charset. */
const WORD = /=\?([^?]*)\?([bq])\?(.*?)\?=/gis
const RUN = new RegExp(`(?:${WORD.source})+`, 'gis')

/** An encoded word, or one other character. Sticky. */
export const wordOrCharacter = (): RegExp => new RegExp(`${WORD.source}|.`, 'isy')

/**
 * The text with its encoded words decoded: as UTF-8 and by their charsets, each by itself and without the blanks between
 * them (RFC 2047 6.2).
 */
export function decodings(text: string): string[] {
  const joined = text.replace(/\?=\s+(?==\?)/g, '?=')
  return [text, joined].flatMap((each) =>
    [asUtf8, byCharset].map((decode) => each.replace(RUN, (run) => decodedRun(run, decode))),
  )
}

type Decode = (octets: Buffer, charset: string) => string

/** A letter may be cut in two by the end of a word: what follows in the same charset is decoded together. */
function decodedRun(run: string, decode: Decode): string {
  const parts: { charset: string; octets: Buffer[] }[] = []
  for (const [, charset = '', encoding = '', text = ''] of run.matchAll(WORD)) {
    const octets = /b/i.test(encoding) ? Buffer.from(text, 'base64') : quotedOctets(text)
    const last = parts.at(-1)
    if (last?.charset === charset) last.octets.push(octets)
    else parts.push({ charset, octets: [octets] })
  }
  return parts.map(({ charset, octets }) => decode(Buffer.concat(octets), charset)).join('')
}

/** The Q encoding (RFC 2047 4.2). Octets above 0x7f that stand for themselves stay UTF-8. */
const quotedOctets = (text: string): Buffer =>
  Buffer.from(
    Buffer.from(text)
      .toString('latin1')
      .replace(/_/g, ' ')
      .replace(/=([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(parseInt(hex, 16))),
    'latin1',
  )

/** Also ASCII in whatever contains it, with NULs between in UTF-16. */
const asUtf8: Decode = (octets) => octets.toString()

/** A language may follow the charset (RFC 2231 5). In UTF-16 the order of octets is anybody's guess. */
const byCharset: Decode = (octets, charset) => {
  const label = charset.replace(/\*.*$/s, '')
  try {
    const text = new TextDecoder(label).decode(octets)
    return /16$/.test(label) ? `${text} ${new TextDecoder('utf-16be').decode(octets)}` : text
  } catch {
    return `${fromUtf7(octets.toString('latin1'))} ${fromEbcdic(octets)}`
  }
}

/** RFC 2152; `&` and `,` in the variant of IMAP (RFC 3501 5.1.3). */
const fromUtf7 = (text: string): string =>
  text.replace(/[+&]([a-z0-9+/,]*)-?/gi, (_, base64: string) =>
    new TextDecoder('utf-16be').decode(Buffer.from(base64.replace(/,/g, '/'), 'base64')),
  )

/** What an address is made of, in all code pages of EBCDIC that have the @ at 0x7c: most of them. */
const EBCDIC = new Map(
  (
    [
      [0x81, 'abcdefghi'],
      [0x91, 'jklmnopqr'],
      [0xa2, 'stuvwxyz'],
      [0xc1, 'ABCDEFGHI'],
      [0xd1, 'JKLMNOPQR'],
      [0xe2, 'STUVWXYZ'],
      [0xf0, '0123456789'],
      [0x4b, '.<'],
      [0x60, '-'],
      [0x6d, '_>'],
      [0x7c, '@'],
    ] as const
  ).flatMap(([first, letters]) => [...letters].map((letter, index) => [first + index, letter] as const)),
)

const fromEbcdic = (octets: Buffer): string =>
  Array.from(octets, (octet) => EBCDIC.get(octet) ?? ' ').join('')
