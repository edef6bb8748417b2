import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Party } from '../core/party'
import { readAuth } from '../plugins/auth/config'
import { identity, namesOf } from '../plugins/auth/identity'
import { makeHash, parseHash, verify } from '../plugins/auth/passwords'
import { ownsSender, refuseAuth } from '../plugins/auth/policy'
import { addressOf } from './support/connection'
import { fc } from './support/random'
import { readText } from './support/reading'

const read = (text: string) => readText('auth.ini', text, readAuth)

const HASH = `$scrypt$ln=15,r=8,p=1$${'A'.repeat(22)}$${'A'.repeat(43)}`

const SAMPLE = `[main]
require_tls = true       ; AUTH is neither offered nor taken without TLS: 538 5.7.11
plaintext_allowed[] = 127.0.0.0/8
sender = address         ; any | domain | address: which MAIL FROM an authenticated user may use
realm =                  ; NAME without @ is NAME@realm; empty: the first of our domains
[senders]
alice = alice@example.com, @example.org
[users]                  ; optional: this plugin checks passwords itself; \`relay-guard passwd NAME\` makes a line
alice = ${HASH}
`

describe('auth.ini', () => {
  it('is read as the documentation shows it', () => {
    const { value, errors } = read(SAMPLE)
    assert.deepEqual(errors, [])
    assert.deepEqual([value.requireTls, value.sender, value.realm], [true, 'address', ''])
    assert.ok(value.plaintextAllowed.lookup('127.0.0.9') >= 0)
    assert.deepEqual([...value.senders], [['alice', ['alice@example.com', '@example.org']]])
    assert.deepEqual([...value.users.keys()], ['alice'])
  })

  it('compares names and domains in one form', () => {
    const { value, errors } = read(
      '[main]\nrealm = Bücher.example.\n[senders]\nBob@BÜCHER.example = Bob@Bücher.example., @Example.ORG.\nc[] = a@b.example\nc[] = d@b.example',
    )
    assert.deepEqual(errors, [])
    assert.equal(value.realm, 'xn--bcher-kva.example')
    assert.deepEqual(
      [...value.senders],
      [
        ['bob@xn--bcher-kva.example', ['bob@xn--bcher-kva.example', '@example.org']],
        ['c', ['a@b.example', 'd@b.example']],
      ],
    )
  })

  const bad: [string, ...string[]][] = [
    ['[main]\nsender = all', 'auth.ini [main] sender: is not one of any, domain, address'],
    ['[main]\nrequire_tls = maybe', 'auth.ini [main] require_tls: is neither true nor false'],
    [
      '[main]\nrequiretls = true',
      'auth.ini [main] requiretls: is not a key of this section; did you mean require_tls?',
    ],
    ['[main]\nrealm = a b', 'auth.ini [main] realm: is not a domain name'],
    ['[main]\nrealm = 192.0.2.1', 'auth.ini [main] realm: is not a domain name'],
    [
      '[main]\nplaintext_allowed = 10.0.0.1/8',
      'auth.ini [main] plaintext_allowed: host bits are set; allowed are an address, CIDR (192.0.2.0/24), address/netmask (192.0.2.0/255.255.255.0) and a range (192.0.2.1-192.0.2.9)',
    ],
    [
      '[sender]\na = a@b.example',
      'auth.ini [sender]: is not a section of this file; did you mean [senders]?',
    ],
    ['[senders]\na = b', 'auth.ini [senders] line 2: is not an address; write user@domain'],
    ['[senders]\na = @', 'auth.ini [senders] line 2: is not a domain name'],
    ['[senders]\na = @*.example', 'auth.ini [senders] line 2: is not a domain name'],
    ['[senders]\na', 'auth.ini [senders] line 2: has no "="'],
    [
      '[senders]\na = a@b.example\nA = c@d.example',
      'auth.ini [senders] line 3: is given twice (names do not differ by case)',
    ],
    ['[senders]\n@b.example = a@b.example', 'auth.ini [senders] line 2: is not the name of a user'],
    [`[users]\nb@ = ${HASH}`, 'auth.ini [users] line 2: is not the name of a user'],
    ['[users]\na = secret', 'auth.ini [users] line 2: is not a line of `relay-guard passwd NAME`'],
    ['[users]\na =', 'auth.ini [users] line 2: is not a line of `relay-guard passwd NAME`'],
    [
      '[users]\na = $scrypt$ln=40,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAA',
      'auth.ini [users] line 2: is not a line of `relay-guard passwd NAME`',
    ],
    [
      `[users]\na = ${HASH.replace('r=8', 'r=99').replace('ln=15', 'ln=20')}`,
      'auth.ini [users] line 2: asks for more memory than a login may have (256 MiB)',
    ],
    [
      `[users]\na = ${HASH}\nA = ${HASH}`,
      'auth.ini [users] line 3: is given twice (names do not differ by case)',
    ],
    [`[users]\na = ${HASH}\na = ${HASH}`, 'auth.ini [users] line 3: is given twice and takes one value'],
  ]
  for (const [text, ...errors] of bad)
    it(`${JSON.stringify(text.slice(0, 60))} is an error`, () => assert.deepEqual(read(text).errors, errors))
})

describe('a login name', () => {
  it('is completed by the realm, in lower case and ASCII', () => {
    assert.equal(identity('Alice', 'example.com'), 'alice@example.com')
    assert.equal(identity('Alice', undefined), 'alice')
    assert.equal(identity('a@BÜCHER.example.', 'x.example'), 'a@xn--bcher-kva.example')
    assert.equal(identity('a@b c', 'x.example'), 'a@b c')
  })

  it('stands in a file as NAME or as NAME@realm', () => {
    assert.deepEqual(namesOf('Alice', 'example.com'), ['alice@example.com', 'alice'])
    assert.deepEqual(namesOf('alice@Example.com.', 'example.com'), ['alice@example.com', 'alice'])
    assert.deepEqual(namesOf('alice@other.example', 'example.com'), ['alice@other.example'])
    assert.deepEqual(namesOf('alice', undefined), ['alice'])
  })

  it('never stands for a user of another domain', () => {
    assert.deepEqual(namesOf('ceo@other.example@example.com', 'example.com'), [
      'ceo@other.example@example.com',
    ])
  })
})

const REALM = 'example.com'
const owns = (mode: string, user: string, sender: string, senders = '', realm: string | undefined = REALM) =>
  ownsSender(read(`[main]\nsender = ${mode}\n[senders]\n${senders}`).value, user, addressOf(sender), realm)

describe('an authenticated user', () => {
  const ALICE = 'alice = info@example.com, @example.org'
  const own: [string, string, string][] = [
    ['address', 'alice', '<alice@example.com>'],
    ['address', 'ALICE', '<Alice@EXAMPLE.com>'],
    ['address', 'alice@example.com', '<alice@example.com>'],
    ['address', 'alice', '<alice+tag@example.com>'],
    ['address', 'alice', '<"alice"@example.com>'],
    ['address', 'alice', '<info@example.com>'],
    ['address', 'alice@example.com', '<info@example.com>'],
    ['address', 'alice', '<info+x@example.com>'],
    ['address', 'alice', '<anybody@example.org>'],
    ['address', 'alice', '<>'],
    ['domain', 'alice', '<bob@example.com>'],
    ['domain', 'alice', '<bob@example.org>'],
    ['domain', 'alice', '<postmaster>'],
    ['any', 'alice', '<x@other.example>'],
    ['address', 'postmaster', '<postmaster>'],
  ]
  for (const [mode, user, sender] of own)
    it(`${user} may send as ${sender} with sender = ${mode}`, () =>
      assert.equal(owns(mode, user, sender, ALICE), true))

  const foreign: [string, string, string][] = [
    ['address', 'alice', '<bob@example.com>'],
    ['address', 'alice', '<alicea@example.com>'],
    ['address', 'alice', '<+alice@example.com>'],
    ['address', 'alice', '<alice@sub.example.com>'],
    ['address', 'alice', '<alice@sub.example.org>'],
    ['address', 'alice', '<alice@example.comx>'],
    ['address', 'alice', '<"alice@example.com"@other.example>'],
    ['address', 'alice', '<"alice\\@example.com"@example.com>'],
    ['address', 'alice', '<@example.com:alice@other.example>'],
    ['address', 'alice', '<alice@[192.0.2.1]>'],
    ['address', 'alice', '<postmaster>'],
    ['address', 'alice', '<""@example.com>'],
    ['address', 'bob@other.example', '<bob@example.com>'],
    ['address', '@example.com', '<ceo@example.com>'],
    ['address', 'alice@example.com@other.example', '<alice@example.com>'],
    ['address', 'alice@other.example@example.com', '<info@example.com>'],
    ['domain', 'alice', '<x@other.example>'],
    ['domain', 'bob@other.example', '<bob@example.com>'],
  ]
  for (const [mode, user, sender] of foreign)
    it(`${user} may not send as ${sender} with sender = ${mode}`, () =>
      assert.equal(owns(mode, user, sender, ALICE), false))

  it('has no address of his own where there is no realm, only what is listed', () => {
    assert.equal(owns('address', 'alice', '<alice@example.com>', '', ''), false)
    assert.equal(
      ownsSender(read(`[senders]\n${ALICE}`).value, 'alice', addressOf('<postmaster>'), undefined),
      false,
    )
    assert.equal(
      ownsSender(read(`[senders]\n${ALICE}`).value, 'alice', addressOf('<info@example.com>'), undefined),
      true,
    )
  })

  it('is not taken for the null sender by an address without a local part', () => {
    const { value } = read('[main]\nsender = address')
    assert.equal(ownsSender(value, 'alice', { user: '', host: 'example.com' }, REALM), false)
    assert.equal(ownsSender(value, 'alice', { user: '', host: '' }, REALM), true)
  })

  it('named like something of JavaScript has nothing more than his name', () => {
    for (const user of ['__proto__', 'constructor', 'toString', 'x'.repeat(65_536), '\0', '\ud800', ''])
      assert.equal(owns('address', user, '<bob@example.com>', ALICE), false)
  })

  it('never owns an address in a domain that is neither his nor listed, however it is written', () => {
    const { value: address } = read(`[main]\nsender = address\n[senders]\n${ALICE}`)
    const { value: domain } = read(`[main]\nsender = domain\n[senders]\n${ALICE}`)
    const mine = new Set(['example.com', 'example.org'])
    const odd = fc.oneof(
      fc.string({ unit: 'grapheme' }),
      fc.domain(),
      fc.constantFrom(
        'Example.com',
        'example.com.x',
        'x.example.org',
        'example.org%',
        'example。com',
        ' example.com',
        'ex%61mple.com',
      ),
    )
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), odd, (user, host) => {
        const plain = host.normalize('NFKC').toLowerCase().replaceAll('。', '.').replace(/\.$/, '')
        if (mine.has(plain) || host === '') return
        for (const config of [address, domain])
          assert.equal(ownsSender(config, 'alice', { user, host }, REALM), false, `${user}@${host}`)
      }),
      { numRuns: 2000 },
    )
  })
})

describe('AUTH', () => {
  const refused = (protectedNow: boolean, inTransaction: boolean, loggedIn: boolean) => {
    const party: Party = {
      ip: '203.0.113.9',
      tls: protectedNow,
      classification: { class: 'nobody' },
      mayRelay: loggedIn,
      senderSpf: 'no',
      ...(loggedIn && { user: 'alice' }),
    }
    const decision = refuseAuth(read('[main]\n').value, party, inTransaction)
    return decision && `${decision.code} ${decision.status}`
  }
  it('is taken once, over TLS, outside of a transaction (RFC 4954)', () => {
    assert.equal(refused(true, false, false), undefined)
    assert.equal(refused(false, false, false), '538 5.7.11')
    assert.equal(refused(true, true, false), '503 5.5.1')
    assert.equal(refused(true, false, true), '503 5.5.1')
    assert.equal(refused(true, true, true), '503 5.5.1')
  })
})

describe('a password', () => {
  it('is right or wrong by its hash, which another one does not share', async () => {
    const line = await makeHash('pässword')
    assert.notEqual(line, await makeHash('pässword'))
    const hash = parseHash(line)
    assert.equal(await verify('pässword', hash), true)
    assert.equal(await verify('pa\u0308ssword', hash), true, 'the same letters in another form of Unicode')
    assert.equal(await verify('password', hash), false)
    assert.equal(await verify('', hash), false)
  })

  it('of nobody is wrong, and takes its time', async () => {
    assert.equal(await verify('x', undefined), false)
    assert.equal(await verify('', undefined), false)
  })

  it('is not checked when far too many are waiting, which is no answer', async () => {
    const tries = Array.from({ length: 80 }, () => verify('x', parseHash(HASH.replace('ln=15', 'ln=10'))))
    const results = await Promise.allSettled(tries)
    const failed = results.flatMap((each) => (each.status === 'rejected' ? [each.reason as Error] : []))
    assert.equal(failed.length, 14)
    assert.match(failed[0]?.message ?? '', /too many logins at once/)
    assert.equal(await verify('x', parseHash(HASH.replace('ln=15', 'ln=10'))), false, 'and then goes on')
  })
})
