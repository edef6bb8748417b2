// Whom a client's message names, by mechanism, and that no secret is ever taken for a name.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { endAuthDialogue, hideLine, readAuthLine } from '../core/haraka/auth-notes'
import { decodeBase64, isBase64, readMessage, userName } from '../core/sasl'
import { connectionOf } from './support/connection'
import { fc } from './support/random'

const SECRET = 'Marker-Secret-17'
const DIGEST = 'b913a602c7eda7a495b4e6e7334d3890'
const base64 = (text: string) => Buffer.from(text).toString('base64')

/** What the RFCs themselves give as examples, and what is like them. */
const messages: [mechanism: string, text: string, user: string | undefined, proves: boolean][] = [
  // RFC 4616 4
  ['PLAIN', '\0tim\0tanstaaftanstaaf', 'tim', true],
  ['PLAIN', 'Ursel\0Kurt\0xipj3plmq', 'Kurt', true],
  ['PLAIN', '\0Tim@Example.com \0x', 'Tim@Example.com', true],
  ['PLAIN', '\0\0x', undefined, false],
  ['PLAIN', '\0tim\0', undefined, false],
  ['PLAIN', `tim\0${SECRET}`, undefined, false],
  ['PLAIN', SECRET, undefined, false],
  ['PLAIN', '\0tim\0x\0y', 'tim', true],
  ['PLAIN', '\0t\x01im\0x', undefined, true],
  ['PLAIN', '', undefined, false],
  // RFC 2195 2
  ['CRAM-MD5', `tim ${DIGEST}`, 'tim', true],
  ['CRAM-MD5', `tim tom ${DIGEST}`, 'tim tom', true],
  ['CRAM-MD5', `tim ${DIGEST} more`, 'tim', true],
  ['CRAM-MD5', DIGEST, undefined, true],
  ['CRAM-MD5', `tim ${SECRET}`, undefined, true],
  ['CRAM-MD5', '', undefined, false],
  // Google's and Microsoft's description of XOAUTH2
  [
    'XOAUTH2',
    'user=someuser@example.com\x01auth=Bearer ya29.vF9dft4qmTc2\x01\x01',
    'someuser@example.com',
    true,
  ],
  ['XOAUTH2', `user=a@b.example auth=Bearer ${SECRET}`, undefined, true],
  ['XOAUTH2', `user=a@b.exampleauth=Bearer ${SECRET}\x01\x01`, undefined, true],
  ['XOAUTH2', `user=${SECRET}`, undefined, true],
  ['XOAUTH2', '', undefined, false],
  // RFC 7628 4.1
  [
    'OAUTHBEARER',
    'n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01',
    'user@example.com',
    true,
  ],
  ['OAUTHBEARER', `n,a=one=2Ctwo=3D,\x01auth=Bearer ${SECRET}\x01\x01`, 'one,two=', true],
  ['OAUTHBEARER', `n,,\x01auth=Bearer ${SECRET}\x01\x01`, undefined, true],
  ['OAUTHBEARER', `n,a=bad=2escape,\x01auth=Bearer ${SECRET}\x01\x01`, undefined, true],
  ['OAUTHBEARER', '\x01', undefined, false],
  // RFC 5802 5, RFC 7677 3
  ['SCRAM-SHA-1', 'n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL', 'user', false],
  ['SCRAM-SHA-256', 'n,a=admin,n=us=2Cer,r=rOprNGfwEbeRWgbNEkqO', 'us,er', false],
  ['SCRAM-SHA-256-PLUS', 'p=tls-server-end-point,,n=user,r=abc,x=y', 'user', false],
  [
    'SCRAM-SHA-1',
    'c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=',
    undefined,
    true,
  ],
  ['SCRAM-SHA-1', SECRET, undefined, true],
  // Others: who knows?
  ['NTLM', SECRET, undefined, true],
  ['DIGEST-MD5', `username="tim",response=${DIGEST}`, undefined, true],
  ['EXTERNAL', '', undefined, false],
  ['constructor', SECRET, undefined, true],
]

describe('a SASL message', () => {
  for (const [mechanism, text, user, proves] of messages)
    it(`of ${mechanism} ${JSON.stringify(text.slice(0, 50))} names ${user ?? 'nobody'}`, () => {
      const message = readMessage(mechanism, text)
      assert.deepEqual([message.user, message.proves], [user, proves])
    })

  it('names nobody by what no name can be', () => {
    for (const text of [
      undefined,
      '',
      ' ',
      '\t',
      'a\0b',
      'a\nb',
      'a\x7f',
      '\x85',
      'x'.repeat(256),
      'é'.repeat(128),
    ])
      assert.equal(userName(text), undefined, JSON.stringify(text))
    assert.equal(userName(' Ann Lee '), 'Ann Lee')
    assert.equal(userName('x'.repeat(255))?.length, 255)
  })

  it('is base64 or not', () => {
    for (const line of ['', '=', 'YQ', 'YQ==', 'YWI=', 'YWJj', '+/+/']) assert.ok(isBase64(line), line)
    for (const line of ['*', 'Y Q', 'YQ=a', '===', 'a-_b', 'é', 'YQ==\r']) assert.ok(!isBase64(line), line)
    assert.equal(decodeBase64('='), '')
  })
})

/** The messages of a client that logs in as alice with the secret, before base64. */
const dialogues: [mechanism: string, ...messages: string[]][] = [
  ['PLAIN', `\0alice\0${SECRET}`],
  ['plain', `alice\0alice\0${SECRET}`],
  ['LOGIN', 'alice', SECRET],
  ['Login', '', SECRET, SECRET],
  ['XOAUTH2', `user=alice\x01auth=Bearer ${SECRET}\x01\x01`, ''],
  ['OAUTHBEARER', `n,a=alice,\x01host=h\x01auth=Bearer ${SECRET}\x01\x01`, '\x01'],
  ['SCRAM-SHA-256', 'n,,n=alice,r=abc', `c=biws,r=abcdef,p=${SECRET}`],
  ['CRAM-MD5', `alice ${DIGEST}`],
  ['NTLM', SECRET, SECRET],
  ['X-UNKNOWN', SECRET],
]

/** Names that are read while auth_base's notes go along, as they do where a plugin for LOGIN is loaded. */
function namesIn(mechanism: string, initial: boolean, lines: string[]): string[] {
  const connection = connectionOf()
  const { notes } = connection
  const names: string[] = []
  let over = false
  const read = (words: string[]) => {
    if (over) return
    const line = readAuthLine(connection, words)
    if (line?.user !== undefined) names.push(line.user)
    // The hook ends such a dialogue.
    over = line?.nameless === true
  }
  const [first = '', ...rest] = lines
  read(['AUTH', initial ? `${mechanism} ${first || '='}` : mechanism])
  notes.authenticating = true
  if (/^login$/i.test(mechanism) && initial) notes['auth_login_userlogin'] = decodeBase64(first)
  for (const line of initial ? rest : lines) {
    read([line, ''])
    if (/^login$/i.test(mechanism)) notes['auth_login_userlogin'] ||= decodeBase64(line)
  }
  return names
}

describe('a dialogue', () => {
  it('names its user, with the first message at once or asked for', () => {
    for (const [mechanism, ...texts] of dialogues) {
      const expected = /NTLM|UNKNOWN/.test(mechanism) || texts[0] === '' ? [] : ['alice']
      if (mechanism === 'LOGIN') expected.push('alice')
      for (const initial of [true, false]) {
        if (mechanism === 'CRAM-MD5' && initial) continue
        const names = namesIn(mechanism, initial, texts.map(base64))
        if (texts[0] !== '') assert.deepEqual(names, expected, `${mechanism} ${initial}`)
      }
    }
  })

  it('never names its secret, also where it is damaged', () => {
    const damage = fc.record({
      at: fc.double({ min: 0, max: 1, noNaN: true }),
      length: fc.integer({ min: 0, max: 4 }),
      with: fc.oneof(
        fc.constant(''),
        fc.constantFrom('\0', '\x01', ',', '=', ' ', '\n', 'n=', 'é'),
        fc.string(),
      ),
    })
    const texts = dialogues.filter(([mechanism]) => mechanism !== 'Login')
    fc.assert(
      fc.property(
        fc.constantFrom(...texts),
        fc.boolean(),
        fc.array(damage, { maxLength: 2 }),
        (dialogue, initial, blows) => {
          const [mechanism, ...parts] = dialogue
          const index = blows.length % parts.length
          for (const { at, length, with: put } of blows) {
            const text = parts[index] ?? ''
            const from = Math.floor(at * text.length)
            parts[index] = text.slice(0, from) + put + text.slice(from + length)
          }
          // A whole copy of the secret stands where only a name can stand, if the damage put a field's mark before it.
          if (/(?:^[^\0]*\0|n=|a=|user=)Marker/.test(parts.join('|')) && !parts.join('|').includes('alice'))
            return
          for (const name of namesIn(mechanism, initial, parts.map(base64)))
            assert.ok(!name.includes(SECRET), `${mechanism}: ${JSON.stringify(parts)}`)
        },
      ),
      { numRuns: 5000 },
    )
  })

  it('may be of any length', () => {
    const huge = 'A'.repeat(65_536)
    for (const [mechanism] of dialogues)
      assert.deepEqual(namesIn(mechanism, true, [huge, huge]), [], mechanism)
  })

  it('ends, and its lines are no lines of a dialogue any more', () => {
    const connection = connectionOf()
    for (const mechanism of ['PLAIN', 'LOGIN', 'XOAUTH2', 'SCRAM-SHA-1']) {
      readAuthLine(connection, ['AUTH', mechanism])
      connection.notes.authenticating = true
      endAuthDialogue(connection)
      assert.equal(readAuthLine(connection, [base64(`\0alice\0${SECRET}`), '']), undefined, mechanism)
    }
  })

  it('is cancelled by a star, which is no message', () => {
    const connection = connectionOf()
    readAuthLine(connection, ['AUTH', 'X-UNKNOWN'])
    assert.deepEqual(readAuthLine(connection, ['*', '']), {
      begins: false,
      mechanism: 'X-UNKNOWN',
      proves: false,
    })
  })

  it('takes a bare AUTH for base64: the password may be it', () => {
    const connection = connectionOf()
    readAuthLine(connection, ['AUTH', 'LOGIN'])
    Object.assign(connection.notes, {
      authenticating: true,
      auth_method: 'LOGIN',
      auth_login_userlogin: 'alice',
    })
    assert.deepEqual(readAuthLine(connection, ['AUTH', '']), {
      begins: false,
      mechanism: 'LOGIN',
      proves: true,
      user: 'alice',
    })
    const words = ['AUTH', '']
    hideLine(words)
    assert.equal(words[0], '(hidden)')
  })
})
