import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Party } from '../core/party'
import { readAuth } from '../plugins/auth/config'
import { beginDialogue, type Mechanism, nextTurn, type Turn } from '../plugins/auth/dialogue'
import { identity, namesOf } from '../plugins/auth/identity'
import { type Derive, decoyOf, makeHash, parseHash, verify } from '../plugins/auth/passwords'
import { ownsSender, refuseAuth } from '../plugins/auth/policy'
import { FairQueue } from '../plugins/auth/queue'
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

describe('two names of one user', () => {
  const twice = (text: string, firstDomain?: string) =>
    readText('auth.ini', text, (reading) => readAuth(reading, firstDomain)).errors
  const error = (line: number) => [
    `auth.ini [users] line ${line}: is the same user as in a line without @, where NAME is NAME@realm`,
  ]

  it('are an error in [users], in any order and case, by realm and by the first of our domains', () => {
    const users = (...names: string[]) => `[users]\n${names.map((name) => `${name} = ${HASH}\n`).join('')}`
    const byRealm = '[main]\nrealm = example.com\n'
    assert.deepEqual(twice(byRealm + users('alice', 'alice@example.com')), error(5))
    assert.deepEqual(twice(byRealm + users('Alice@EXAMPLE.com.', 'ALICE')), error(4))
    assert.deepEqual(twice(users('alice', 'alice@example.com'), 'example.com'), error(3))
  })

  it('are none in another domain, of other users, or in [senders], where both hold', () => {
    const other = `[main]\nrealm = example.com\n[users]\nalice = ${HASH}\nalice@example.org = ${HASH}\nbob = ${HASH}\n`
    assert.deepEqual(twice(other), [])
    assert.deepEqual(
      twice('[senders]\nalice = a@b.example\nalice@example.com = c@d.example\n', 'example.com'),
      [],
    )
  })
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

  it('costs one derivation, with the parameters of its hash', async () => {
    const used: unknown[] = []
    const derive: Derive = async (_password, _salt, length, options) => {
      used.push(options)
      return Buffer.alloc(length)
    }
    assert.equal(await verify('x', parseHash(HASH), derive), true)
    assert.equal(await verify('x', decoyOf([parseHash(HASH)]), derive), false)
    assert.deepEqual(used, [parseHash(HASH).options, parseHash(HASH).options])
  })

  it('of a name that does not exist costs as much as the costliest one in the file', () => {
    const cost = (ln: number, r = 8, p = 1) => HASH.replace('ln=15,r=8,p=1', `ln=${ln},r=${r},p=${p}`)
    const files: [string[], string][] = [
      [[], cost(15)],
      [[cost(10)], cost(10)],
      [[cost(10), cost(16), cost(12)], cost(16)],
      [[cost(14, 8, 9), cost(15)], cost(14, 8, 9)],
      [[cost(12, 32), cost(13)], cost(12, 32)],
    ]
    for (const [hashes, expected] of files) {
      const { value } = read(`[users]\n${hashes.map((hash, index) => `u${index} = ${hash}\n`).join('')}`)
      assert.deepEqual(value.decoy.options, parseHash(expected).options, hashes.join())
    }
  })
})

describe('the queue of password checks', () => {
  /** Tasks that end when they are told to, in the order in which they began. */
  function trial(atOnce: number) {
    const queue = new FairQueue(atOnce)
    const begun: string[] = []
    const open: (() => void)[] = []
    const task = (name: string) => () => {
      begun.push(name)
      return new Promise<string>((resolve) => open.push(() => resolve(name)))
    }
    const add = (group: string, number: number, preferred = false, signal = new AbortController().signal) =>
      queue.run({ group, preferred, signal }, task(`${group}${number}`))
    const finish = async () => {
      open.shift()?.()
      await new Promise(setImmediate)
    }
    return { queue, begun, add, finish, open }
  }

  it('serves networks by turns, and users at known networks first', async () => {
    const { begun, add, finish, open } = trial(1)
    const all = [0, 1, 2, 3].map((number) => add('flood', number))
    all.push(add('quiet', 0), add('other', 0), add('quiet', 1), add('home', 0, true), add('home', 1, true))
    while (open.length) await finish()
    assert.deepEqual(begun.join(' '), 'flood0 home0 home1 flood1 quiet0 other0 flood2 quiet1 flood3')
    assert.equal((await Promise.all(all)).length, 9)
  })

  it('never runs more than its number at once, and loses nobody, whatever ends in whatever order', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.boolean(), fc.constantFrom('add', 'end', 'abort')),
        ),
        async (steps) => {
          const { queue, add, finish, begun, open } = trial(2)
          const results: Promise<string>[] = []
          const aborts: AbortController[] = []
          for (const [index, [group, preferred, step]] of steps.entries()) {
            if (step === 'add') {
              const controller = new AbortController()
              aborts.push(controller)
              results.push(add(group, index, preferred, controller.signal).catch(() => 'gave up'))
            }
            if (step === 'end') await finish()
            if (step === 'abort') aborts.shift()?.abort(new Error('gave up'))
            assert.ok(open.length <= 2)
          }
          while (open.length) await finish()
          const ended = await Promise.all(results)
          assert.equal(ended.filter((each) => each !== 'gave up').length, begun.length)
          assert.equal(queue.waiting, 0)
        },
      ),
      { numRuns: 200 },
    )
  })

  it('lets go who has waited for too long, and does not check his password', async () => {
    const { begun, add, finish, open } = trial(1)
    const first = add('a', 0)
    const controller = new AbortController()
    const second = add('a', 1, false, controller.signal)
    const third = add('a', 2)
    controller.abort(new Error('too many logins at once'))
    await assert.rejects(second, /too many logins at once/)
    await assert.rejects(add('a', 3, false, controller.signal), /too many logins at once/)
    while (open.length) await finish()
    assert.deepEqual([await first, await third, begun], ['a0', 'a2', ['a0', 'a2']])
  })

  it('goes on after a check that failed', async () => {
    const queue = new FairQueue(1)
    const { signal } = new AbortController()
    const how = { group: 'a', preferred: false, signal }
    await assert.rejects(
      queue.run(how, () => Promise.reject(new Error('no memory'))),
      /no memory/,
    )
    assert.equal(await queue.run(how, async () => 'done'), 'done')
  })
})

describe('the dialogue of AUTH PLAIN and LOGIN', () => {
  const base64 = (text: string) => Buffer.from(text).toString('base64')
  /** The last turn after these lines of the client, the first one the initial response (undefined: none). */
  function speak(mechanism: Mechanism, initial: string | undefined, ...lines: string[]): Turn {
    let turn = beginDialogue(mechanism, initial)
    for (const line of lines) {
      assert.ok('dialogue' in turn, JSON.stringify(turn))
      turn = nextTurn(turn.dialogue, line)
    }
    return turn
  }

  it('leads to a name and a password, by either and in each form (RFC 4954 4)', () => {
    const plain = { credentials: { mechanism: 'PLAIN', user: 'alice', password: 'pass word' } }
    const login = { credentials: { mechanism: 'LOGIN', user: 'alice', password: 'pass word' } }
    const message = base64('\0alice\0pass word')
    assert.deepEqual(speak('PLAIN', message), plain)
    assert.deepEqual(speak('PLAIN', undefined, message), plain)
    assert.deepEqual(speak('PLAIN', message.replace(/=+$/, '')), plain, 'without padding')
    assert.deepEqual(speak('PLAIN', base64('boss\0alice\0pass word')), plain, 'whoever he wants to act as')
    assert.deepEqual(speak('LOGIN', undefined, base64('alice'), base64('pass word')), login)
    assert.deepEqual(speak('LOGIN', base64('alice'), base64('pass word')), login)
  })

  const bad: [Mechanism, string | undefined, ...string[]][] = [
    ['PLAIN', '='],
    ['PLAIN', '!!!'],
    ['PLAIN', undefined, ''],
    ['PLAIN', undefined, 'AUTH PLAIN'],
    ['PLAIN', base64('alice')],
    ['PLAIN', base64('alice\0secret')],
    ['PLAIN', base64('\0\0secret')],
    ['PLAIN', base64('\0alice\0')],
    ['PLAIN', base64('\0alice\0secret\0')],
    ['PLAIN', base64('\0alice\0secret\0more')],
    ['LOGIN', '='],
    ['LOGIN', '*'],
    ['LOGIN', undefined, ''],
    ['LOGIN', undefined, 'alice@example.com'],
    ['LOGIN', undefined, base64('alice'), ''],
    ['LOGIN', base64('alice'), '='],
    ['LOGIN', base64('alice'), 'pass word'],
  ]
  for (const [mechanism, ...lines] of bad)
    it(`ends where ${mechanism} is told ${JSON.stringify(lines)}`, () =>
      assert.ok('malformed' in speak(mechanism, ...lines)))

  it('says nothing of what it was told where it ends', () => {
    fc.assert(
      fc.property(
        fc.constantFrom<Mechanism>('PLAIN', 'LOGIN'),
        fc.array(fc.oneof(fc.string(), fc.base64String(), fc.string().map(base64)), {
          minLength: 1,
          maxLength: 3,
        }),
        (mechanism, lines) => {
          let turn = beginDialogue(mechanism, undefined)
          for (const line of lines) {
            if (!('dialogue' in turn)) break
            turn = nextTurn(turn.dialogue, line)
          }
          if ('malformed' in turn)
            assert.match(
              turn.malformed,
              /^(Not base64|Not a message of PLAIN|The (user name|password) is missing)$/,
            )
        },
      ),
      { numRuns: 1000 },
    )
  })
})
