import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ownListeners } from '../core/net/own-listeners'
import { readDomains } from '../plugins/domains/config'
import { CANNOT_TELL } from '../plugins/domains/table'
import { certificate } from './support/certificate'
import { readText } from './support/reading'

const world = {
  ownListener: ownListeners({ listen: '127.0.0.1:25,[::]:2525' }),
  hostName: 'mx.example.com',
  redis: { enabled: false },
}
const read = (text: string, files: Record<string, string> = {}) =>
  readText('domains.ini', text, (reading) => readDomains(reading, world), files)

function good(text: string, files: Record<string, string> = {}) {
  const { value, errors } = read(text, files)
  assert.deepEqual(errors, [])
  return value
}

const SAMPLE = `[main]
anti_spoof = reject      ; reject | tag (a header) | off: MAIL FROM in one of our domains by a client that may not relay
anti_spoof_from = tag    ; the same for the header From:
spoof_allowed[] = 192.0.2.0/24      ; forwarders, mailing lists, hosted senders
postmaster =             ; where <postmaster> without a domain goes; empty: postmaster@ the first domain
bounce = verified        ; verified | send | drop: a DSN for queued mail of a client that may not relay (verified: its MAIL FROM had an SPF pass)
smarthost =              ; next hop for relayed mail; empty: the recipient's MX
smarthost_tls = may      ; none | may | encrypt | verify; with a login in the URL: verify, unless written here
tls_ca =                 ; PEM file of authorities for next hops, beside the system's
host_list = false        ; also take the domains in Haraka's config/host_list (delivery = plugin)
redis = false            ; also take domains from Redis (section 7)
questions = 20/1s        ; callouts to one next hop at most
cache_known = 7d         ; asked again in the background after a seventh of it
cache_unknown = 1h

[example.com]
next_hop = smtp://10.0.0.5:25, smtp://10.0.0.6:25
subdomains = false       ; true: everything under example.com too
delivery = forward       ; forward | queue | plugin
tls = may                ; none | may | encrypt | verify; with a login in the URL: verify, unless written here
connections = 20         ; to one next hop at once, a worker
verify = callout         ; callout | none
routing_characters = reject   ; reject | allow
timeout = 30s            ; each step with the next hop; connecting: 5s
timeout_final = 10m      ; its answer after the final dot

[example.org]
next_hop = lmtp:unix:/run/dovecot/lmtp
recipients[] = anna@example.org       ; a fixed list instead of verify; postmaster@ is always there
`

const HOP = 'next_hop = smtp://10.0.0.5'

describe('domains.ini', () => {
  it('is read as the documentation shows it', () => {
    const value = good(SAMPLE)
    const [com, org] = value.domains.all()
    assert.deepEqual([value.antiSpoof, value.antiSpoofFrom, value.bounce], ['reject', 'tag', 'verified'])
    assert.deepEqual(value.postmaster, { user: 'postmaster', host: 'example.com' })
    assert.equal(value.smarthost, undefined)
    assert.equal(value.domains.first?.name, 'example.com')
    const hops = com?.route?.hops
    assert.ok(Array.isArray(hops))
    assert.deepEqual(
      hops.map(({ host, port }) => `${host}:${port}`),
      ['10.0.0.5:25', '10.0.0.6:25'],
    )
    assert.deepEqual(
      [com?.delivery, com?.route?.tls, com?.route?.timeout, com?.subdomains],
      ['forward', 'may', 30_000, false],
    )
    assert.deepEqual([...(org?.recipients ?? [])], ['anna@example.org'])
  })

  it('without any domain has no postmaster, and nothing is ours', () => {
    const value = good('[main]\n')
    assert.deepEqual([value.domains.all(), value.postmaster], [[], undefined])
  })

  it('takes a next hop a line', () => {
    const hops = good('[a.example]\nnext_hop[] = smtp://10.0.0.5\nnext_hop[] = lmtp://[2001:db8::1]:2424\n')
      .domains.first?.route?.hops
    assert.ok(Array.isArray(hops))
    assert.deepEqual(
      hops.map(({ protocol, host, port }) => [protocol, host, port]),
      [
        ['smtp', '10.0.0.5', 25],
        ['lmtp', '2001:db8::1', 2424],
      ],
    )
  })

  it('takes mx, in any case', () => {
    assert.equal(typeof good('[a.example]\nnext_hop = MX\n').domains.first?.route?.hops, 'function')
  })

  it('tells routes apart by what differs, and never by a password', () => {
    const key = (text: string) => good(`[a.example]\n${text}\n`).domains.first?.route?.key
    assert.equal(key(HOP), key('next_hop = smtp://10.0.0.5:25'))
    assert.notEqual(key(HOP), key(`${HOP}\ntls = verify`))
    assert.notEqual(key(HOP), key(`${HOP}\ntimeout = 5s`))
    assert.notEqual(key(HOP), key(`${HOP}\nconnections = 5`))
    assert.notEqual(key('next_hop = smtp://a:b@10.0.0.5'), key('next_hop = smtp://c:b@10.0.0.5'))
    assert.doesNotMatch(key('next_hop = smtp://a:hunter2@10.0.0.5') ?? '', /hunter2/)
  })

  it('a login means a verified certificate, unless the operator writes otherwise', () => {
    const domain = (text: string) => good(`[a.example]\n${text}\n`).domains.first?.route
    const smarthost = (text: string) => good(`[main]\n${text}\n`).smarthost
    const cases: [ReturnType<typeof domain>, string, boolean][] = [
      [domain('next_hop = smtp://u:p@h.example:587'), 'verify', true],
      [domain('next_hop = smtp://h.example, smtp://u:p@h.example:587'), 'verify', true],
      [domain('next_hop = smtp://u:p@h.example:587\ntls = encrypt'), 'encrypt', false],
      [domain('next_hop = smtp://u:p@h.example:587\ntls = verify'), 'verify', false],
      [domain('next_hop = smtp://h.example'), 'may', false],
      [smarthost('smarthost = smtp://u:p@smart.example:587'), 'verify', true],
      [smarthost('smarthost = smtp://u:p@smart.example:587\nsmarthost_tls = encrypt'), 'encrypt', false],
      [smarthost('smarthost = smtp://u:p@smart.example:587\nsmarthost_tls = none'), 'none', false],
      [smarthost('smarthost = smtp://smart.example'), 'may', false],
      [smarthost('smarthost = smtp://smart.example\nsmarthost_tls = verify'), 'verify', false],
    ]
    for (const [route, tls, forLogin] of cases)
      assert.deepEqual([route?.tls, route?.tlsForLogin ?? false], [tls, forLogin], route?.key)
  })

  it('takes authorities from a PEM file, for every route', () => {
    const { cert } = certificate()
    const text = `[main]\nsmarthost = smtp://s.example\ntls_ca = /etc/ca.pem\n[a.example]\n${HOP}\n`
    const { smarthost, domains } = good(text, { '/etc/ca.pem': `# ours\n${cert}${cert}` })
    for (const route of [smarthost, domains.first?.route])
      assert.equal(route?.ca?.match(/BEGIN CERTIFICATE/g)?.length, 2)
    const without = good(`[a.example]\n${HOP}\n`).domains.first?.route
    assert.notEqual(domains.first?.route?.key, without?.key, 'its connections are not shared')
  })

  it('says why authorities cannot be taken', () => {
    const error = (files: Record<string, string>) =>
      read(`[main]\ntls_ca = /etc/ca.pem\n`, files).errors.join('\n')
    assert.match(error({}), /^domains\.ini \[main\] tls_ca: cannot be read: /)
    assert.match(error({ '/etc/ca.pem': 'no pem' }), /tls_ca: holds no certificate in PEM/)
    const { cert, key } = certificate()
    assert.match(error({ '/etc/ca.pem': key }), /holds no certificate in PEM/)
    const cut = cert.replace(/\n.{20}/, '\n')
    assert.match(error({ '/etc/ca.pem': cert + cut }), /tls_ca: certificate 2 of it cannot be read/)
  })

  it('knows domains in one form, and what is under those with subdomains', () => {
    const { domains } = good(
      `[BÜCHER.example.]\n${HOP}\n[a.example]\n${HOP}\nsubdomains = true\n[x.a.example]\n${HOP}\n`,
    )
    const found = (host: string) => {
      const domain = domains.find(host)
      return domain === CANNOT_TELL ? domain : domain?.name
    }
    assert.equal(found('xn--bcher-kva.example'), 'xn--bcher-kva.example')
    assert.equal(found('www.xn--bcher-kva.example'), undefined)
    assert.equal(found('a.example'), 'a.example')
    assert.equal(found('b.c.a.example'), 'a.example')
    assert.equal(found('x.a.example'), 'x.a.example')
    assert.equal(found('y.x.a.example'), 'a.example')
    for (const host of [
      '',
      'example',
      'ba.example',
      'a.example.com',
      '.a.example'.slice(1, 3),
      '__proto__',
      'constructor',
      'x'.repeat(65_536),
    ])
      assert.equal(found(host), undefined, host.slice(0, 20))
  })

  it('takes host_list, whose domains are for other queue plugins, and domains.ini goes first', () => {
    const path = 'config/host_list'
    const { domains } = good(`[main]\nhost_list = true\n[a.example]\n${HOP}\n`, {
      [path]: '# ours\nA.example\nB.example. ; too\n\n',
    })
    assert.deepEqual(
      domains.all().map(({ name, delivery }) => [name, delivery]),
      [
        ['a.example', 'forward'],
        ['b.example', 'plugin'],
      ],
    )
  })

  it('sends <postmaster> where it says', () => {
    assert.deepEqual(good(`[main]\npostmaster = Admin@A.example.\n[a.example]\n${HOP}\n`).postmaster, {
      user: 'Admin',
      host: 'a.example',
    })
  })

  const own = 'is a listener of this server itself: mail would go round in a circle'
  const bad: [string, ...string[]][] = [
    [
      '[main]\nanti_spof = off',
      'domains.ini [main] anti_spof: is not a key of this section; did you mean anti_spoof?',
    ],
    ['[main]\nanti_spoof = on', 'domains.ini [main] anti_spoof: is not one of reject, tag, off'],
    ['[main]\nbounce = never', 'domains.ini [main] bounce: is not one of verified, send, drop'],
    [
      '[main]\nspoof_allowed[] = mail.example',
      'domains.ini [main] spoof_allowed: is no address or subnet; allowed are an address, CIDR (192.0.2.0/24), address/netmask (192.0.2.0/255.255.255.0) and a range (192.0.2.1-192.0.2.9)',
    ],
    ['[main]\nredis = true', 'domains.ini [main] redis: needs enabled = true in redis.ini'],
    ['[main]\nquestions = 20', 'domains.ini [main] questions: is not a rate; write 20/1s'],
    ['[main]\nquestions = 0/1s', 'domains.ini [main] questions: is not a rate; write 20/1s'],
    [
      '[main]\ncache_known = 7',
      'domains.ini [main] cache_known: is not a duration; write 250ms, 90s, 15m, 1h or 7d',
    ],
    ['[main]\npostmaster = a', 'domains.ini [main] postmaster: is not an address; write user@domain'],
    ['[main]\npostmaster = a@other.example', 'domains.ini [main] postmaster: is in none of our domains'],
    [
      '[main]\nsmarthost = smart.example',
      'domains.ini [main] smarthost: not a next hop; allowed are smtp://HOST[:PORT], smtps://HOST[:PORT], lmtp://HOST[:PORT] and lmtp:unix:/PATH',
    ],
    ['[main]\nhost_list = true', 'host_list: cannot be read: it is not in the last good configuration'],
    ['[Main]\nbounce = drop', 'domains.ini [Main]: is not a domain; did you mean [main]?'],
    ['[a b]', 'domains.ini [line 1]: is not a domain name'],
    ['[192.0.2.1]', 'domains.ini [192.0.2.1]: is not a domain name'],
    ['[*.example.com]', 'domains.ini [*.example.com]: is not a domain name'],
    ['[example.com/x]', 'domains.ini [line 1]: is not a domain name'],
    [`[a.example]\n${HOP}\n[A.example.]\n${HOP}`, 'domains.ini [A.example.]: the domain is there already'],
    [
      '[a.example]',
      'domains.ini [a.example] next_hop: is missing; write smtp://HOST, lmtp:unix:PATH, … or delivery = plugin',
    ],
    ['[a.example]\nnext_hop =', 'domains.ini [a.example] next_hop: is empty'],
    [
      '[a.example]\ndelivery = queue\nnext_hop = ; smtp://10.0.0.5',
      'domains.ini [a.example] next_hop: is empty',
    ],
    ['[a.example]\nnext_hop = mx, smtp://10.0.0.5', 'domains.ini [a.example] next_hop: mx stands alone'],
    [
      '[a.example]\nnext_hop = smtp://127.0.0.1',
      `domains.ini [a.example] next_hop: smtp://127.0.0.1:25 ${own}`,
    ],
    [
      '[a.example]\nnext_hop = smtp://localhost:25',
      `domains.ini [a.example] next_hop: smtp://localhost:25 ${own}`,
    ],
    [
      '[a.example]\nnext_hop = smtp://[::1]:2525',
      `domains.ini [a.example] next_hop: smtp://[::1]:2525 ${own}`,
    ],
    ['[a.example]\nnext_hop = smtp://0.0.0.0', `domains.ini [a.example] next_hop: smtp://0.0.0.0:25 ${own}`],
    [
      '[a.example]\nnext_hop = smtp://[::ffff:127.0.0.1]',
      `domains.ini [a.example] next_hop: smtp://[::ffff:127.0.0.1]:25 ${own}`,
    ],
    [
      `[a.example]\n${HOP}\ndelivery = plugin`,
      'domains.ini [a.example] next_hop: has no meaning with delivery = plugin',
    ],
    [
      `[a.example]\n${HOP}\ndelivery = relay`,
      'domains.ini [a.example] delivery: is not one of forward, queue, plugin',
    ],
    [
      `[a.example]\n${HOP}\ntls = yes`,
      'domains.ini [a.example] tls: is not one of none, may, encrypt, verify',
    ],
    [
      `[a.example]\n${HOP}\nconnections = 0`,
      'domains.ini [a.example] connections: is not a number of connections, allowed: 1 to 1000',
    ],
    [
      `[a.example]\n${HOP}\nconnections = many`,
      'domains.ini [a.example] connections: is not a number of connections, allowed: 1 to 1000',
    ],
    [
      `[a.example]\n${HOP}\ntimeout_final = 61m`,
      "domains.ini [a.example] timeout_final: is too long, allowed: up to 1h, for so long Haraka's hook waits",
    ],
    [
      `[a.example]\n${HOP}\ntimeout = 0s`,
      'domains.ini [a.example] timeout: a duration of nothing has no meaning here',
    ],
    [
      `[a.example]\n${HOP}\nrecipients[] = b@other.example`,
      'domains.ini [a.example] recipients: number 1 is not in this domain',
    ],
    [
      `[a.example]\n${HOP}\nrecipients[] = b@sub.a.example`,
      'domains.ini [a.example] recipients: number 1 is not in this domain',
    ],
    [
      `[a.example]\n${HOP}\nrecipients = b`,
      'domains.ini [a.example] recipients: is not an address; write user@domain',
    ],
    [
      `[a.example]\n${HOP}\nrecipients =`,
      'domains.ini [a.example] recipients: names nobody; without the line all are taken',
    ],
    [
      `[a.example]\n${HOP}\nnext_hops = x`,
      'domains.ini [a.example] next_hops: is not a key of this section; did you mean next_hop?',
    ],
  ]
  for (const [text, ...errors] of bad)
    it(`${JSON.stringify(text)} is an error`, () => assert.deepEqual(read(text).errors, errors))

  it('says which of several next hops is wrong, for it does not repeat them', () => {
    assert.match(
      read('[a.example]\nnext_hop = smtp://10.0.0.5, smtp://u:hunter2@10.0.0.6:x\n').errors.join(),
      /^domains\.ini \[a\.example\] next_hop: number 2: bad port, 1 to 65535 is allowed \(in a login/,
    )
  })

  it('never shows a password in an error', () => {
    for (const hop of [
      'smtp://u:hunter2@h:99999',
      'smtp://u:hunter2@a b',
      'smpt://u:hunter2@h',
      'smtp://u:hunter2@127.0.0.1',
      'smtp://u:hunt,hunter2@h:587',
      'u:hunter2@h',
      'smtp:/u:hunter2@h',
      'lmtp:unix:u:hunter2@/run/x',
    ])
      assert.doesNotMatch(read(`[a.example]\nnext_hop = ${hop}\n`).errors.join('\n'), /hunter2/, hop)
  })
})
