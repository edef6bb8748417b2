// Whom From: names, to any reader: where readers may differ, every address that one of them could show.
import { parseHeader } from '../../../core/header-address'
import { memo } from '../../../core/memo'
import type { Mailbox } from '../../../core/party'
import { decodings, wordOrCharacter } from './encoded-words'

/** Octets of all From: fields together: what is parsed grows with it, and no author needs more. */
export const MAX_FROM = 4 * 1024

const fieldOf = memo((name) => new RegExp(`^${name}[ \\t]*:(.*)$`, 'is'))

/** The text of each field of this name, unfolded. `From :` is a From: field too (RFC 5322 4.5.8), but not to Haraka. */
export const valuesOf = (fields: readonly string[], name: string): string[] => {
  const field = fieldOf(name)
  return fields.flatMap((text) => field.exec(text)?.[1]?.replace(/\r?\n/g, ' ').trim() || [])
}

/**
 * One address, perhaps after a name, of letters and digits that every reader takes for the same: most mail. What it
 * matches is not looked at any closer.
 */
const SIMPLE_FROM = (() => {
  const name = '"[a-z0-9 .,\'-]*" ?|(?:[a-z0-9]+ )+'
  const local = '[a-z0-9_+=-]+(?:\\.[a-z0-9_+=-]+)*'
  const label = '(?!xn--)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?'
  return new RegExp(`^(?:${name})?<(${local})@(${label}(?:\\.${label})+)>$`, 'i')
})()

/** The addresses of From: fields. A value that is not plain RFC 5322 gives whatever in it looks like an address, too. */
export function fromAddresses(values: readonly string[]): Mailbox[] {
  return values.flatMap((value) => {
    const [, user, host] = SIMPLE_FROM.exec(value) ?? []
    if (user !== undefined && host !== undefined) return [{ user, host: host.toLowerCase() }]
    const parsed = parsedFrom(value)
    const isPlain = parsed.length > 0 && !INVISIBLE.test(value) && !hidesAt(value)
    return isPlain ? parsed : [...parsed, ...roughly(value)]
  })
}

/** Control and format characters, others that show nothing, and what was no UTF-8: readers drop them or stop there. */
const INVISIBLE = /[\p{Cf}\p{DI}\ufffd]|[^\P{Cc}\t]/u
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

/** Whether a reader shows an `@` outside of quotes and comments where the parser sees none: of full width, or encoded. */
function hidesAt(value: string): boolean {
  const rest = withoutQuotes(value)
  return [rest, ...decodings(rest)].some((text) => text.normalize('NFKC').includes('@'))
}

/** What stands outside of quotes and comments, but for each plain `@`. An encoded word is one piece, whatever is in it. */
function withoutQuotes(value: string): string {
  const inside = /\\.|./sy
  const outside = wordOrCharacter()
  let rest = ''
  let quoted = false
  let depth = 0
  for (let at = 0; at < value.length; ) {
    const pattern: RegExp = quoted || depth > 0 ? inside : outside
    pattern.lastIndex = at
    const piece: string = pattern.exec(value)?.[0] ?? value.slice(at)
    at += piece.length
    if (quoted) quoted = piece !== '"'
    else if (piece === '(') depth++
    else if (depth > 0) depth -= piece === ')' ? 1 : 0
    else if (piece === '"') quoted = true
    else if (piece !== '@') rest += piece
  }
  return rest
}

/** Every reading of a value that breaks the rules: encoded words opened, comments and invisible characters left out or not. */
function roughly(value: string): Mailbox[] {
  const texts = [value, withoutComments(value)]
    .flatMap((text) => [text, ...decodings(text)])
    .map((text) => text.normalize('NFKC'))
  const readings = [...new Set(texts)].flatMap((text) => [
    text.replace(eachInvisible, ' '),
    text.replace(eachInvisible, ''),
  ])
  return [...new Set(readings.flatMap((text) => [text, withoutComments(text)]))].flatMap(lookalikes)
}

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
  return joined.split(/[<>()",;:]+/).flatMap((piece) => {
    const parts = piece.split('@')
    return parts.slice(1).flatMap((after, index) => {
      const user = parts[index]?.split(/\s+/).at(-1) ?? ''
      return hostsIn(after).map((host) => ({ user, host }))
    })
  })
}

/** Octets of a domain name (RFC 1035 2.3.4). */
const MAX_HOST = 255

/** The hosts with which a text may begin: common readers leave out blanks inside an address, others stop there. */
function hostsIn(text: string): string[] {
  const hosts: string[] = []
  let host = ''
  for (const word of text.split(/\s+/)) {
    const labels = /^[\p{L}\p{M}\p{N}._-]*/u.exec(word)?.[0] ?? ''
    host += labels
    if (host.length > MAX_HOST && hosts.length > 0) break
    if (labels !== '') hosts.push(host)
    if (labels !== word) break
  }
  return hosts
}
