// Every Redis key, nowhere else. What stands in braces is what Redis Cluster hashes, so all that is kept of one
// subject lies on one node.
import { createHash } from 'node:crypto'
import { memo } from '../memo'
import { ValueError } from '../text'

/** Encoded subjects end here; what goes beyond stands as a hash. */
const LONGEST = 200
const KEPT = 160

const encodePoint = (point: string): string => {
  const code = point.charCodeAt(0)
  // Half of a surrogate pair has no UTF-8 form; all of them would share U+FFFD.
  if (point.length === 1 && code >= 0xd800 && code <= 0xdfff) return `%u${code.toString(16)}`
  return Buffer.from(point).toString('hex').toUpperCase().replace(/../g, '%$&')
}

/**
 * A name that strangers choose, as part of a key: lower-case, percent-encoded outside letters, digits and
 * `. @ : - _ + =`, at most 200 characters. Two names give the same text only if they are equal in lower case.
 */
export function encodeSubject(subject: string): string {
  const lower = subject.toLowerCase()
  if (lower.length <= LONGEST && /^[a-z0-9.@:_+=-]*$/.test(lower)) return lower
  const encoded = lower.replace(/[^a-z0-9.@:_+=-]/gu, encodePoint)
  if (encoded.length <= LONGEST) return encoded
  // ~ is always encoded, so no short name looks like a shortened one.
  return `${encoded.slice(0, KEPT)}~${createHash('sha256').update(encoded).digest('hex').slice(0, 32)}`
}

const dashed = memo((words) => words.replaceAll(' ', '-'))
// The steps of one session, and those of clients that come again, name the same subjects.
const encoded = memo(encodeSubject)
/** What is counted, as it stands in its keys: `{ip:203.0.113.9}`. */
export const tagOf = (scope: string, subject: string): string => `{${dashed(scope)}:${encoded(subject)}}`
const day = (date: Date): string => date.toISOString().slice(0, 10)

/** The names of all keys under one prefix. */
export interface Keys {
  /** Hash: for each window (as `1h`) `1h.used`, `1h.limit`, `1h.leased`, `1h.parts`; `refused`, `last`. */
  rate(scope: string, subject: string, what: string): string
  /** Sorted set: one member a connection, scored by when its lease ends (unix ms). */
  concurrent(scope: string, subject: string): string
  /** Hash: `reason`, `since`, `until`, `by`. */
  block(scope: string, subject: string): string
  /** Hash: `state`, `asked`, `reply`. */
  recipient(address: string): string
  /** Hash: the keys of a domains.ini section, written by the operator. The name is in its one form, and as it is. */
  domain(name: string): string
  /** Hash: one field an outcome. */
  stats(date: Date): string
  /** Sorted set: the subjects with the most. */
  top(outcome: string, date: Date): string
  /** Stream: the newest decisions. */
  log: string
  /** Channel: a key of which workers should give back what they hold in advance. */
  recall: string
  /** Channel: a key whose subject was blocked, unblocked or reset. */
  blocks: string
  /** What all block keys begin with. */
  blockPrefix: string
  /** Hash: one a worker. */
  node(host: string, pid: number): string
}

/** The names of all keys under a prefix. Throws ValueError if the prefix has a brace: Redis Cluster would hash that one. */
export function makeKeys(prefix: string): Keys {
  if (/[{}]/.test(prefix)) throw new ValueError('has a brace, allowed: anything without { and }', prefix)
  return {
    rate: (scope, subject, what) => `${prefix}rate:${tagOf(scope, subject)}:${dashed(what)}`,
    concurrent: (scope, subject) => `${prefix}concurrent:${tagOf(scope, subject)}`,
    block: (scope, subject) => `${prefix}block:${tagOf(scope, subject)}`,
    recipient: (address) => `${prefix}recipient:{${encodeSubject(address)}}`,
    domain: (name) => `${prefix}domain:${name}`,
    stats: (date) => `${prefix}stats:${day(date)}`,
    top: (outcome, date) => `${prefix}top:${encodeSubject(outcome)}:${day(date)}`,
    log: `${prefix}log`,
    recall: `${prefix}recall`,
    blocks: `${prefix}blocks`,
    blockPrefix: `${prefix}block:`,
    node: (host, pid) => `${prefix}node:${encodeSubject(host)}:${pid}`,
  }
}
