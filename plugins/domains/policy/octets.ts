// The octets of a message as they arrive, line by line: what no server can carry unchanged is refused here.
import type { Decision } from '../../../core/decision'

const CR = 0x0d
const LF = 0x0a
const NUL = 0x00
const DOT = 0x2e
const COLON = 0x3a
const CRLF = Buffer.from('\r\n')
const dot = Buffer.from('.')

/** Octets. Haraka parses the whole header at once, so these bound how long one message keeps the others waiting. */
export const MAX_FIELD = 64 * 1024
/** Octets that the whole header may have. */
export const MAX_HEADER = 128 * 1024

/** Field names that Haraka's core drops without a word. */
const DROPPED = new Set(['.', '..', '__proto__', 'constructor', 'prototype'])

/** The refusal of a message that would not leave as it came (RFC 3463: 5.6.0, other or undefined media error). */
export const malformed = (text: string): Decision => ({
  outcome: 'message.malformed',
  code: 554,
  status: '5.6.0',
  text,
  rule: { file: 'domains.ini', section: 'main', key: 'message format' },
})

/**
 * Reads a message line by line, each with its CRLF and as sent: dots stuffed. What `take` returns is the canonical
 * message: the same octets for whoever judges it and for every next hop.
 */
export class MessageOctets {
  /** Why the message is refused; undefined as long as nothing is wrong. */
  refusal: Decision | undefined
  #exact = new Map<string, Buffer[]>()
  #part: 'start' | 'header' | 'body' = 'start'
  #field: Buffer[] = []
  #fieldSize = 0
  #headerSize = 0
  #line = 0

  /** The header is not over. */
  get inHeader(): boolean {
    return this.#part !== 'body'
  }

  /**
   * Once all lines are read: the octets of header fields whose text, as Haraka makes it, holds U+FFFD; by that text, in
   * order. Those that came with a U+FFFD of their own are among them: their text is the same.
   */
  get exact(): ReadonlyMap<string, readonly Buffer[]> {
    this.#endField()
    return this.#exact
  }

  /** Returns the lines that go on, dots stuffed by the book (RFC 5321 4.5.2); none once the message is refused. */
  take(wire: Buffer): Buffer[] {
    if (this.refusal) return []
    this.#line++
    if (wire.length < 2 || wire.indexOf(CR) !== wire.length - 2 || wire.at(-1) !== LF)
      return this.refuse(`Line ${this.#line} holds a CR or LF that is not part of a CRLF`)
    if (wire.includes(NUL)) return this.refuse(`Line ${this.#line} holds a NUL`)
    const line = wire[0] === DOT ? wire.subarray(1) : wire
    if (this.#part === 'body') return [stuffed(line, wire)]
    return this.#header(line, wire)
  }

  refuse(text: string): [] {
    this.refusal ??= malformed(text)
    this.#field = []
    return []
  }

  #header(line: Buffer, wire: Buffer): Buffer[] {
    if (line.length === 2) {
      this.#endField()
      this.#part = 'body'
      return [line]
    }
    const continued = line[0] === 0x20 || line[0] === 0x09
    const name = continued ? undefined : fieldName(line)
    if (this.#part === 'start' && name === undefined) {
      // No header at all: the body begins at once, and the empty line that says so is put in front.
      this.#part = 'body'
      return [CRLF, stuffed(line, wire)]
    }
    if (!continued) {
      if (name === undefined) return this.refuse(`Line ${this.#line} of the header is no header field`)
      if (DROPPED.has(name)) return this.refuse(`A header field cannot be named ${name}`)
      this.#endField()
    }
    this.#part = 'header'
    this.#field.push(line)
    this.#fieldSize += line.length
    this.#headerSize += line.length
    if (this.#fieldSize > MAX_FIELD) return this.refuse(`A header field is longer than ${MAX_FIELD} octets`)
    if (this.#headerSize > MAX_HEADER) return this.refuse(`The header is longer than ${MAX_HEADER} octets`)
    return [stuffed(line, wire)]
  }

  #endField() {
    const text = this.#field.map((line) => line.toString().replace(/\r\n$/, '\n')).join('')
    if (text.includes('\ufffd')) {
      const octets = Buffer.concat(this.#field)
      const same = this.#exact.get(text)
      if (same) same.push(octets)
      else this.#exact.set(text, [octets])
    }
    this.#field = []
    this.#fieldSize = 0
  }
}

/** The octets of a line with its dot doubled; `wire` is used where it is just that. */
function stuffed(line: Buffer, wire: Buffer): Buffer {
  if (line[0] !== DOT) return line
  return line.length < wire.length ? wire : Buffer.concat([dot, line])
}

/** The lower-case name of a header field; undefined: the line is none (RFC 5322 2.2; 4.5.8 allows blanks before the colon). */
function fieldName(line: Buffer): string | undefined {
  const colon = line.indexOf(COLON)
  if (colon < 1) return undefined
  const name = /^([!-9;-~]+)[ \t]*$/.exec(line.toString('latin1', 0, Math.min(colon, 1000)))
  return name?.[1]?.toLowerCase()
}
