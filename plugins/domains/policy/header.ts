// Whom From: names, to any reader: where readers may differ, every address that one of them could show.
import { parseHeader } from '../../../core/header-address'
import { memo } from '../../../core/memo'
import type { Mailbox } from '../../../core/party'

/** Octets of all From: fields together: what is parsed grows with it, and no author needs more. */
export const MAX_FROM = 4 * 1024

const fieldOf = memo((name) => new RegExp(`^${name}[ \\t]*:(.*)$`, 'is'))

/** The text of each field of this name, unfolded. `From :` is a From: field too (RFC 5322 4.5.8), but not to Haraka. */
export const valuesOf = (fields: readonly string[], name: string): string[] => {
  const field = fieldOf(name)
  return fields.flatMap((text) => field.exec(text)?.[1]?.replace(/\r?\n/g, ' ').trim() || [])
}

/** The addresses of From: fields. A value that is not plain RFC 5322 gives whatever in it looks like an address, too. */
export function fromAddresses(values: readonly string[]): Mailbox[] {
  return values.flatMap((value) => {
    const parsed = parsedFrom(value)
    return parsed.length > 0 && !INVISIBLE.test(value) ? parsed : [...parsed, ...roughly(value)]
  })
}

/** Control and format characters, and what was no UTF-8: some readers drop them, others stop there. */
const INVISIBLE = /[\p{Cf}\ufffd]|[^\P{Cc}\t]/u
const eachInvisible = new RegExp(INVISIBLE, 'gu')

/** Empty where it cannot be parsed: then an `@` outside of quotes in a name counts, too, as common readers show it. */
function parsedFrom(value: string): Mailbox[] {
  try {
    return parseHeader(value, { startAt: 'from', allowAtInDisplayName: false })
      .flatMap((each) => ('addresses' in each ? each.addresses : [each]))
      .map(({ user, host }) => ({ user: String(user ?? ''), host: String(host ?? '') }))
      .filter(({ user }) => user !== '')
  } catch {
    return []
  }
}

/** Every reading of a value that breaks the rules: encoded words opened, comments and invisible characters left out or not. */
function roughly(value: string): Mailbox[] {
  const open = `${value} ${decodedWords(value)}`.normalize('NFKC')
  const readings = [open.replace(eachInvisible, ' '), open.replace(eachInvisible, '')]
  return [...new Set(readings.flatMap((text) => [text, withoutComments(text)]))].flatMap(lookalikes)
}

/** RFC 2047 words. The charset does not matter: what a domain is made of is ASCII, with NULs between in UTF-16. */
const decodedWords = (value: string): string =>
  value.replace(/=\?[^?\s]{1,100}\?([bq])\?([^?\s]*)\?=/gi, (_, encoding: string, text: string) =>
    /b/i.test(encoding)
      ? Buffer.from(text, 'base64').toString()
      : Buffer.from(
          text
            .replace(/_/g, ' ')
            .replace(/=([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(parseInt(hex, 16))),
          'latin1',
        ).toString(),
  )

function withoutComments(text: string): string {
  let depth = 0
  return text
    .split(/([()])/)
    .filter((part) => {
      if (part === '(') depth++
      else if (part === ')') depth = Math.max(0, depth - 1)
      else return depth === 0
      return false
    })
    .join('')
}

/** Split and not matched, because the time must not grow with the square of what a client sends. */
function lookalikes(text: string): Mailbox[] {
  const joined = text
    .split('@')
    .map((part) => part.replace(/^[\s"]+|(?<![\s"])[\s"]+$/g, ''))
    .join('@')
  return joined.split(/[\s<>()",;:]+/).flatMap((word) => {
    const parts = word.split('@')
    return parts.slice(1).flatMap((after, index) => {
      const user = parts[index] ?? ''
      const host = /^[\p{L}\p{M}\p{N}._-]*/u.exec(after)?.[0] ?? ''
      return host === '' ? [] : [{ user, host }]
    })
  })
}
