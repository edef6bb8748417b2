import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseNextHop, printHost, printNextHop } from '../core/next-hop/address'
import { fc } from './support/random'

const seed = Number(process.env['SEED'] ?? 5321)
const smtp = { protocol: 'smtp', implicitTls: false }

test('a next hop has the port of its scheme unless it says another', () => {
  assert.deepEqual(parseNextHop('smtp://mx.example'), { ...smtp, host: 'mx.example', port: 25 })
  assert.deepEqual(parseNextHop('smtps://MX.example.'), {
    ...smtp,
    implicitTls: true,
    host: 'mx.example',
    port: 465,
  })
  assert.deepEqual(parseNextHop('lmtp://10.0.0.5'), { ...smtp, protocol: 'lmtp', host: '10.0.0.5', port: 24 })
  assert.deepEqual(parseNextHop('SMTP://[2001:DB8::1]:2525'), { ...smtp, host: '2001:db8::1', port: 2525 })
  assert.deepEqual(parseNextHop('smtp://bücher.example'), {
    ...smtp,
    host: 'xn--bcher-kva.example',
    port: 25,
  })
})

test('a unix socket is an absolute path', () => {
  const hop = parseNextHop('lmtp:unix:/run/dovecot/lmtp')
  assert.equal(hop.path, '/run/dovecot/lmtp')
  assert.equal(printNextHop(hop), 'lmtp:unix:/run/dovecot/lmtp')
  assert.throws(() => parseNextHop('lmtp:unix:run'), /must be absolute/)
})

test('a login is percent-decoded, and nothing of it is shown', () => {
  const hop = parseNextHop('smtps://anna%40example.org:p%3A%2F%40ss@mx.example:4650')
  assert.equal(hop.user, 'anna@example.org')
  assert.equal(hop.password, 'p:/@ss')
  assert.equal(printNextHop(hop), 'smtps://***@mx.example:4650')
  assert.throws(
    () => parseNextHop('smtp://anna:secret@mx.example:0'),
    (error: Error) => /bad port/.test(error.message) && !error.message.includes('secret'),
  )
})

test('what is not a next hop is refused with what is wrong and what is allowed', () => {
  const wrong: [string, RegExp][] = [
    ['', /not a next hop/],
    ['mx.example', /not a next hop/],
    ['http://mx.example', /unknown scheme/],
    ['constructor://mx.example', /unknown scheme/],
    ['smtp://', /host is missing/],
    ['smtp://:25', /host is missing/],
    ['smtp://u:p@', /host is missing/],
    ['smtp://mx.example/', /no path/],
    ['smtp://mx.example?tls', /no path/],
    ['smtp://mx.example:', /bad port/],
    ['smtp://mx.example:65536', /bad port/],
    ['smtp://mx.example:2 5', /bad port/],
    ['smtp://2001:db8::1', /brackets/],
    ['smtp://[10.0.0.1]', /no IPv6 address/],
    ['smtp://10.0.0', /bad address/],
    ['smtp://10.0.0.256', /bad address/],
    ['smtp://mx example', /bad host name/],
    ['smtp://-mx.example', /bad host name/],
    ['smtp://user@mx.example', /needs a password/],
    ['smtp://user:@mx.example', /needs a password/],
    ['lmtp:unix:/run/me:pw@x', /no @ in its path/],
    ['lmtp:unix:/me:pw@/run/x', /no @ in its path/],
    ['smtp://u%zz:p@mx.example', /percent-encoding/],
    ['smtp://u%00:p@mx.example', /bad user/],
  ]
  for (const [text, problem] of wrong) {
    assert.throws(
      () => parseNextHop(text),
      (error: Error) => problem.test(error.message) && /allowed/.test(error.message),
      text,
    )
  }
})

test('an error repeats nothing of a text that may hold a password', () => {
  const texts = [
    // What is left of smtp://me:sec,ret@h:587 when a list is cut at its commas.
    'smtp://me:hunter2',
    'hunter2@h:587',
    'me:hunter2@h',
    'smtp:/me:hunter2@h',
    'lmtp:unix:me:hunter2@/run/x',
    'hunter2://me@h',
    'smtp://h/hunter2',
    'smtp://hunter2.1',
    'smtp://me:x@hunter2_..h',
    'smtp://me:x@[hunter2]',
    'smtp://me:x@10.0.0.hunter2:x',
    'smtp://hunter2@h',
    'smtp://me%zz:hunter2@h',
    'smtp://hunter2:@h',
    'lmtp:unix:/run/me:hunter2@x',
    'smtp://127.0.0.1:1@me:hunter2',
  ]
  for (const text of texts) {
    try {
      parseNextHop(text)
    } catch (error) {
      const { message } = error as Error
      assert.doesNotMatch(message, /hunter2|\bme\b/, text)
      assert.match(message, /allowed are/)
    }
  }
  const secret = fc.stringMatching(/^[QXZ]{6,12}$/)
  const around = fc.tuple(
    fc.constantFrom('', 'smtp://', 'smtps:/', 'lmtp:unix:', 'lmtp://u:', '[', 'smtp://[', 'http://'),
    secret,
    fc.constantFrom('', '@h', ':25', '@h:99999', '/x', '@', ']', ' '),
  )
  fc.assert(
    fc.property(around, ([before, word, behind]) => {
      try {
        parseNextHop(before + word + behind)
      } catch (error) {
        assert.equal((error as Error).message.includes(word), false)
      }
    }),
    { seed },
  )
})

test('any text is read or refused, and what is read prints to what reads the same', () => {
  const text = fc.oneof(
    fc.string(),
    fc
      .tuple(fc.constantFrom('smtp://', 'smtps://', 'lmtp://', 'lmtp:unix:/'), fc.string())
      .map((parts) => parts.join('')),
    fc
      .tuple(fc.constantFrom('smtp://', 'lmtp://'), fc.domain(), fc.nat(70_000))
      .map(([s, d, p]) => `${s}${d}:${p}`),
  )
  fc.assert(
    fc.property(text, (input) => {
      let hop: ReturnType<typeof parseNextHop>
      try {
        hop = parseNextHop(input)
      } catch (error) {
        return assert.match(String(error), /allowed are/)
      }
      assert.doesNotMatch(printNextHop(hop).replace('://***@', '://'), /[@*]/)
      if (hop.user === undefined) assert.deepEqual(parseNextHop(printNextHop(hop)), hop)
    }),
    { seed },
  )
})

test('a host is shown with its port', () => {
  assert.equal(printHost(parseNextHop('smtp://[2001:db8::1]')), '[2001:db8::1]:25')
})
