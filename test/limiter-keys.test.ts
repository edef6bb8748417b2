import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encodeSubject, makeKeys } from '../core/redis/keys'
import { fc } from './support/random'

const keys = makeKeys('relay-guard:')
const any = { unit: 'binary', maxLength: 300 } as const

test('keys stand as documented', () => {
  assert.equal(
    keys.rate('sender domain', 'B.Example', 'failed logins'),
    'relay-guard:rate:{sender-domain:b.example}:failed-logins',
  )
  assert.equal(
    keys.concurrent('network', '2001:db8::/48'),
    'relay-guard:concurrent:{network:2001:db8::%2F48}',
  )
  assert.equal(keys.block('user', 'bob+x@b.example'), 'relay-guard:block:{user:bob+x@b.example}')
  assert.equal(keys.recipient('é@b.example'), 'relay-guard:recipient:{%C3%A9@b.example}')
  assert.equal(keys.domain('b.example'), 'relay-guard:domain:b.example')
  const day = new Date('2026-03-04T23:00:00Z')
  assert.equal(keys.stats(day), 'relay-guard:stats:2026-03-04')
  assert.equal(keys.top('recipient.relay-denied', day), 'relay-guard:top:recipient.relay-denied:2026-03-04')
  assert.equal(keys.log, 'relay-guard:log')
  assert.equal(keys.node('mx1', 42), 'relay-guard:node:mx1:42')
})

test('no subject breaks out of its braces, or is long', () => {
  const pattern =
    /^relay-guard:rate:\{ip:(?:[a-z0-9.@:_+=-]|%[0-9A-F]{2}|%u[0-9a-f]{4})*(?:%?[0-9A-Fu]?[0-9a-f]{0,3}~[0-9a-f]{32})?\}:bytes$/
  fc.assert(
    fc.property(fc.string(any), (subject) => {
      const key = keys.rate('ip', subject, 'bytes')
      assert.match(key, pattern)
      assert.ok(key.length < 250)
    }),
  )
  assert.ok(keys.rate('ip', '\u{1f600}'.repeat(65_536), 'bytes').length < 250)
})

test('two subjects have one key only if they are equal in lower case', () => {
  const close = fc.string(any).chain((text) => fc.tuple(fc.constant(text), fc.mixedCase(fc.constant(text))))
  fc.assert(
    fc.property(fc.oneof(close, fc.tuple(fc.string(any), fc.string(any))), ([a, b]) => {
      assert.equal(encodeSubject(a) === encodeSubject(b), a.toLowerCase() === b.toLowerCase())
    }),
  )
  for (const [a, b] of [
    ['%7d', '}'],
    ['\ud800', '\ud801'],
    ['\ud800', '\ufffd'],
    ['%ud800', '\ud800'],
    ['a/b', 'a%2Fb'],
  ] as const) {
    assert.notEqual(encodeSubject(a), encodeSubject(b))
  }
})

test('long subjects differ by their ends, also from what looks like a shortened one', () => {
  const long = 'x'.repeat(1000)
  assert.notEqual(encodeSubject(`${long}a`), encodeSubject(`${long}b`))
  assert.notEqual(encodeSubject(encodeSubject(long)), encodeSubject(long))
})

test('a prefix with a brace is an error', () => {
  assert.throws(() => makeKeys('{mail}:'), /"\{mail\}:" has a brace, allowed: anything without \{ and \}/)
})
