import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { type ConfigError, parseIni, printConfigError } from '../core/ini/parse'
import { printRate } from '../core/limiter/rate'
import { type LimitsConfig, readLimits } from '../plugins/limits/config'
import { type CounterOwner, ipOf, networkOfClient, type Scope } from '../plugins/limits/subjects'

function read(text: string): { config: LimitsConfig; errors: string[] } {
  const errors: ConfigError[] = []
  const sections = parseIni('limits.ini', text, errors)
  const config = readLimits({ sections, errors, open: () => Buffer.alloc(0) })
  return { config, errors: errors.map(printConfigError) }
}

const good = (text: string): LimitsConfig => {
  const { config, errors } = read(text)
  assert.deepEqual(errors, [])
  return config
}

/** `KEY: LIMIT` that holds for someone, and whom it is counted as. */
function ruling(config: LimitsConfig, section: string, who: CounterOwner): string {
  const limit = config.limits.get(section)
  assert.ok(limit)
  const found = limit.exceptions(who)
  return found
    ? `${found.key}: ${printRate(found.rate)} for ${found.subject}`
    : `limit: ${printRate(limit.rate)}`
}

const named = (scope: Scope, subject: string): CounterOwner => ({ scope, subject })

test('The default file is without errors, only defers, and blocks nobody', () => {
  const path = join(__dirname, '..', '..', 'config', 'relay-guard', 'limits.ini')
  const config = good(readFileSync(path, 'utf8'))
  assert.ok(config.limits.size > 10)
  for (const { section, action, block } of config.limits.values())
    assert.deepEqual([section, action, block], [section, 'defer', 0])
  assert.deepEqual([config.ipv6Prefix, config.exemptRelay], [64, true])
})

test('A section holds its limit, action and block, and without them it defers and does not block', () => {
  const config = good(
    '[messages per ip]\nlimit = 30/60s, 300/1h\naction = reject\nblock = 10m\n[bytes per user]\nlimit = 1G/1d\n',
  )
  const { rate, action, block } = config.limits.get('messages per ip')!
  assert.deepEqual([printRate(rate), action, block], ['30/1m, 300/1h', 'reject', 600_000])
  const bytes = config.limits.get('bytes per user')!
  assert.deepEqual([printRate(bytes.rate), bytes.action, bytes.block], ['1G/1d', 'defer', 0])
})

test('All pairs of the table are known and no other', () => {
  const envelope = ['ip', 'network', 'user', 'sender', 'sender domain']
  const table: Record<string, string[]> = {
    connections: ['ip', 'network'],
    'concurrent connections': ['ip', 'network'],
    messages: envelope,
    recipients: [...envelope, 'recipient', 'recipient domain', 'message'],
    bytes: [...envelope, 'recipient domain'],
    'failed logins': ['ip', 'network', 'user'],
    'refused recipients': ['ip', 'network'],
    errors: ['connection'],
  }
  for (const what of Object.keys(table)) {
    for (const scope of [...envelope, 'recipient', 'recipient domain', 'message', 'connection']) {
      const single = what.startsWith('concurrent') || scope === 'message' || scope === 'connection'
      const { config, errors } = read(`[${what} per ${scope}]\nlimit = ${single ? '20' : '20/1m'}\n`)
      const known = table[what]?.includes(scope) ?? false
      assert.deepEqual([errors.length, config.limits.size], known ? [0, 1] : [1, 0], `${what} per ${scope}`)
    }
  }
})

for (const [title, text, error] of [
  [
    'a pair that is not counted',
    '[messages per recipient]\nlimit = 3/1m',
    '[messages per recipient]: is not a limit; did you mean [messages per ip]? messages are counted per ip, network, user, sender, sender domain',
  ],
  [
    'a pair spelled wrong',
    '[conections per ip]\nlimit = 3/1m',
    '[conections per ip]: is not a limit; did you mean [connections per ip]? a section is [WHAT per WHOM], WHAT one of connections, concurrent connections, messages, recipients, bytes, failed logins, refused recipients, errors',
  ],
  [
    'no limit',
    '[messages per ip]\naction = defer',
    '[messages per ip] limit: is missing; write limit = 30/1m, 300/1h',
  ],
  [
    'a limit without a window',
    '[messages per ip]\nlimit = 30',
    '[messages per ip] limit: "30" has no window; write 30/1m, 300/1h or unlimited',
  ],
  [
    'a window where there is none',
    '[concurrent connections per ip]\nlimit = 30/1m',
    '[concurrent connections per ip] limit: "30/1m" has a window; write 20 or unlimited',
  ],
  [
    'a limit of recipients per message with a window',
    '[recipients per message]\nlimit = 30/1m',
    '[recipients per message] limit: "30/1m" has a window; write 20 or unlimited',
  ],
  [
    'a limit that lets nothing through',
    '[bytes per ip]\nlimit = 0/1m',
    '[bytes per ip] limit: "0" lets nothing through, allowed: 1 or more, or unlimited',
  ],
  [
    'an unknown action',
    '[bytes per ip]\nlimit = 1M/1m\naction = drop',
    '[bytes per ip] action: "drop" is not one of defer, reject, shadow',
  ],
  [
    'a block without a unit',
    '[bytes per ip]\nlimit = 1M/1m\nblock = 10',
    '[bytes per ip] block: "10" is not a duration; write 250ms, 90s, 15m, 1h or 7d',
  ],
  [
    'reject where strangers choose the name',
    '[recipients per recipient]\nlimit = 9/1m\naction = reject',
    '[recipients per recipient] action: reject is not possible per recipient: strangers choose that name, and could shut others out; allowed are defer and shadow',
  ],
  [
    'block where strangers choose the name',
    '[messages per sender domain]\nlimit = 9/1m\nblock = 1h',
    '[messages per sender domain] block: is not possible per sender domain: strangers choose that name, and could shut others out',
  ],
  [
    'block of a connection',
    '[errors per connection]\nlimit = 9\nblock = 1h',
    '[errors per connection] block: is not possible per connection, which ends by itself',
  ],
  [
    'an exception of a message',
    '[recipients per message]\nlimit = 9\nexample.org = 5',
    '[recipients per message] example.org: is not possible per message; known: limit, action, block',
  ],
  [
    'an option spelled wrong',
    '[messages per user]\nlimit = 9/1m\nacton = shadow',
    '[messages per user] acton: is not a key of this section; did you mean action?',
  ],
  [
    'an option in capitals',
    '[messages per ip]\nlimit = 9/1m\nBlock = 10m',
    '[messages per ip] Block: is not a key of this section; did you mean block?',
  ],
  [
    'a subnet with host bits',
    '[messages per ip]\nlimit = 9/1m\n10.0.0.1/8 = unlimited',
    '[messages per ip] 10.0.0.1/8: host bits are set, did you mean 10.0.0.0/8 or 10.0.0.1?',
  ],
  [
    'two exceptions for the same addresses',
    '[messages per ip]\nlimit = 9/1m\n10.0.0.0/8 = unlimited\n10.0.0.0/255.0.0.0 = 3/1m',
    '[messages per ip] 10.0.0.0/255.0.0.0: has the same addresses as 10.0.0.0/8',
  ],
  [
    'a subnet among users',
    '[messages per user]\nlimit = 9/1m\n10.0.0.0/8 = unlimited',
    '[messages per user] 10.0.0.0/8: is not a user, a domain or .subdomain',
  ],
  [
    'an address among domains',
    '[messages per sender domain]\nlimit = 9/1m\na@b.example = unlimited',
    '[messages per sender domain] a@b.example: is an address, allowed are a domain and .subdomain',
  ],
  [
    'a word among senders',
    '[messages per sender]\nlimit = 9/1m\nanna = unlimited',
    '[messages per sender] anna: is not an address, a domain or .subdomain',
  ],
  [
    'one address in two spellings',
    '[messages per sender]\nlimit = 9/1m\nanna@b.example = unlimited\nAnna@B.example = 9/1m',
    '[messages per sender] Anna@B.example: says the same as anna@b.example',
  ],
  [
    'an exception given as a list',
    '[messages per ip]\nlimit = 9/1m\n10.0.0.1[] = 1/1m\n10.0.0.1[] = 2/1m',
    '[messages per ip] 10.0.0.1: is given twice and takes one value',
  ],
  [
    'an exception without a limit',
    '[messages per ip]\nlimit = 9/1m\n10.0.0.1',
    '[messages per ip] 10.0.0.1: has no "="',
  ],
  [
    'an IPv6 prefix longer than an address',
    '[main]\nipv6_prefix = 129',
    '[main] ipv6_prefix: "129" is not a prefix length, allowed: 48 to 128',
  ],
  [
    'an unknown key of [main]',
    '[main]\nexempt_relays = true',
    '[main] exempt_relays: is not a key of this section; did you mean exempt_relay?',
  ],
] as const) {
  test(`An error is named: ${title}`, () => {
    const { errors } = read(`${text}\n`)
    assert.ok(errors.includes(`limits.ini ${error}`), errors.join('\n'))
    assert.equal(errors.length, 1, errors.join('\n'))
  })
}

describe('An option spelled wrong, with a value that can be read, is no exception for a user of that name', () => {
  for (const key of ['limt', 'limi', 'lmit', 'limits', 'Limit', 'LIMT', 'limit_', 'blok', 'blocks', 'actoin'])
    for (const whom of ['user', 'ip', 'network', 'sender', 'sender domain', 'recipient'])
      test(`${key} per ${whom}`, () => {
        const { errors } = read(`[recipients per ${whom}]\nlimit = 30/1h\n${key} = 500/1h\n`)
        assert.equal(errors.length, 1, errors.join('\n'))
        assert.match(errors[0]!, /is not a key of this section; did you mean (limit|block|action)\?/)
        assert.equal(/is written "/.test(errors[0]!), whom === 'user')
      })

  test('but names that are only short, or somewhat like one, are', () => {
    const names = [
      'lim',
      'bob',
      'tim',
      'mit',
      'lit',
      'anna',
      'limburg',
      'blackwood',
      'lucinda.limit',
      'jackson',
    ]
    const { errors } = read(
      `[recipients per user]\nlimit = 30/1h\n${names.map((n) => `${n} = 5/1h`).join('\n')}\n`,
    )
    assert.deepEqual(errors, [])
  })

  test('and in quotes it is the name', () => {
    const { config, errors } = read('[recipients per user]\nlimit = 30/1h\n"black" = 500/1h\n')
    assert.deepEqual(errors, [])
    const limit = config.limits.get('recipients per user')
    assert.equal(limit?.exceptions({ scope: 'user', subject: 'black' })?.rate.windows[0]?.limit, 500)
    assert.equal(limit?.exceptions({ scope: 'user', subject: 'block' }), undefined)
  })
})

test('An error is named: a key given twice', () => {
  const { errors } = read('[messages per sender]\nlimit = 9/1m\nlimit = 10/1m\n')
  assert.deepEqual(errors, [
    'limits.ini [messages per sender] limit: is given twice; write one line, limit = 30/1m, 300/1h',
  ])
})

test('The smallest subnet decides, for each address in it', () => {
  const config = good(
    '[connections per ip]\nlimit = 30/1m\n198.51.100.0/24 = 300/1m\n198.51.100.7 = 1/1m\n198.51.0.0/16 = unlimited\n2001:db8::/32 = 9/1m\n',
  )
  const of = (ip: string) => ruling(config, 'connections per ip', ipOf(ip, 64))
  assert.equal(of('198.51.100.8'), '198.51.100.0/24: 300/1m for 198.51.100.8')
  assert.equal(of('::ffff:198.51.100.8'), '198.51.100.0/24: 300/1m for 198.51.100.8')
  assert.equal(of('198.51.100.7'), '198.51.100.7: 1/1m for 198.51.100.7')
  assert.equal(of('198.51.1.1'), '198.51.0.0/16: unlimited for 198.51.1.1')
  assert.equal(of('2001:db8:1:2:3::4'), '2001:db8::/32: 9/1m for 2001:db8:1:2::/64')
  assert.equal(of('203.0.113.9'), 'limit: 30/1m')
  assert.equal(of('no address'), 'limit: 30/1m')
})

test('An exception smaller than what is counted together has a counter of its own', () => {
  const config = good(
    '[messages per network]\nlimit = 30/1m\n198.51.100.64/26 = 9/1m\n2001:db8:1:2::/64 = 8/1m\n2001:db8:1:3::/96 = 7/1m\n198.51.0.0/16 = 6/1m\n[messages per ip]\nlimit = 30/1m\n2001:DB8::1 = 5/1m\n',
  )
  const of = (ip: string) => ruling(config, 'messages per network', networkOfClient(ip))
  assert.equal(of('198.51.100.65'), '198.51.100.64/26: 9/1m for 198.51.100.65')
  assert.equal(of('198.51.100.1'), '198.51.0.0/16: 6/1m for 198.51.100.0/24')
  assert.equal(of('2001:db8:1:2::9'), '2001:db8:1:2::/64: 8/1m for 2001:db8:1:2::/64')
  // However many addresses there are in it, they are one client.
  assert.equal(of('2001:db8:1:3::9'), '2001:db8:1:3::/96: 7/1m for 2001:db8:1:3::/96')
  assert.equal(of('2001:db8:1:4::9'), 'limit: 30/1m')
  assert.equal(
    ruling(config, 'messages per ip', ipOf('2001:db8::1', 64)),
    '2001:DB8::1: 5/1m for 2001:db8::1',
  )
  assert.equal(ruling(config, 'messages per ip', ipOf('2001:db8::2', 64)), 'limit: 30/1m')
})

test('Of names the address decides, then the domain, then the longest suffix', () => {
  const config = good(
    '[messages per sender]\nlimit = 30/1m\nAnna@Example.com = 5/1m\nexample.com = 4/1m\n.example.com = 3/1m\n.deep.example.com = 2/1m\nbücher.example = 1/1m\n',
  )
  const of = (name: string) => ruling(config, 'messages per sender', named('sender', name)).split(' for ')[0]
  assert.equal(of('anna@example.com'), 'Anna@Example.com: 5/1m')
  assert.equal(of('bob@example.com'), 'example.com: 4/1m')
  assert.equal(of('bob@www.example.com'), '.example.com: 3/1m')
  assert.equal(of('bob@deep.example.com'), '.example.com: 3/1m')
  assert.equal(of('bob@very.deep.example.com'), '.deep.example.com: 2/1m')
  assert.equal(of('anna@xn--bcher-kva.example'), 'bücher.example: 1/1m')
  assert.equal(of('anna@notexample.com'), 'limit: 30/1m')
  assert.equal(of('example.com@other.example'), 'limit: 30/1m')
})

test('A user without a domain is excepted by name, not by what looks like a domain of others', () => {
  const config = good('[messages per user]\nlimit = 30/1m\nAnna = 5/1m\njohn.smith = 4/1m\n.smith = 3/1m\n')
  const of = (name: string) => ruling(config, 'messages per user', named('user', name)).split(' for ')[0]
  assert.equal(of('anna'), 'Anna: 5/1m')
  assert.equal(of('x@anna'), 'limit: 30/1m')
  assert.equal(of('john.smith'), 'john.smith: 4/1m')
  assert.equal(of('other.smith'), 'limit: 30/1m')
})

test('No name that a client chooses is an option, a property or a suffix, and none costs more for its length', () => {
  const config = good(
    '[failed logins per user]\nlimit = 30/1m\nexample.com = 4/1m\n.example.com = 3/1m\n127.example = 9/1m\n',
  )
  const dots = '.'.repeat(65_536)
  const names = [
    'limit',
    'action',
    'block',
    'a@limit',
    '127',
    'enabled',
    'a@127',
    '__proto__',
    'a@__proto__',
    'constructor',
    'a@constructor',
    '}',
    '.example.com',
    '@.example.com',
    `a@${dots}example.com`,
    'a@',
    '@',
    '',
  ]
  for (const name of names)
    assert.equal(
      ruling(config, 'failed logins per user', named('user', name)),
      'limit: 30/1m',
      name.slice(0, 40),
    )
  const before = process.cpuUsage()
  for (let n = 0; n < 1000; n++) ruling(config, 'failed logins per user', named('user', `a@x${dots}`))
  assert.ok(process.cpuUsage(before).user < 1_000_000)
})
