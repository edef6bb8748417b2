import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Rule } from '../core/decision'
import { expectSpf, senderSpf } from '../core/haraka/spf-result'
import type { Party } from '../core/party'
import { readDomains } from '../plugins/domains/config'
import type { Path } from '../plugins/domains/policy/address-features'
import { judgeRecipient } from '../plugins/domains/policy/recipient'
import { deliveryChoiceOf } from '../plugins/domains/policy/route-choice'
import { judgeFrom, judgeSender } from '../plugins/domains/policy/sender'
import { addressOf, connectionOf, pluginOf } from './support/connection'
import { fc } from './support/random'
import { readText } from './support/reading'

const HOP = 'next_hop = smtp://10.0.0.5'
const read = (text: string) =>
  readText('domains.ini', text, (reading) =>
    readDomains(reading, { ownListener: () => false, hostName: 'mx' }),
  ).value

const config = read(`[main]
spoof_allowed[] = 192.0.2.77
[ours.example]
${HOP}
[sub.example]
${HOP}
subdomains = true
[list.example]
${HOP}
recipients[] = Anna@list.example, "b c"@list.example
[bücher.example]
${HOP}
[gateway.example]
${HOP}
routing_characters = allow
[plugin.example]
delivery = plugin
`)

const STRANGER: Party = {
  ip: '203.0.113.9',
  tls: false,
  classification: { class: 'nobody' },
  mayRelay: false,
  senderSpf: 'no',
}

/** A client that may relay, or one in [never], by these lines. */
const clientOf = ({ relay, never }: { relay?: Rule; never?: Rule }): Party => ({
  ...STRANGER,
  ...(relay && { classification: { class: 'relay', rule: relay }, mayRelay: true, relayRule: relay }),
  ...(never && { classification: { class: 'never', rule: never } }),
})

const judgeFor = (in_: typeof config, address: Path, lines: { relay?: Rule; never?: Rule }) =>
  judgeRecipient(in_, address, clientOf(lines))

const RELAY: Rule = { file: 'acl.ini', section: 'relay', key: '10.0.0.0/8' }

/** The outcome for a path as in RCPT TO; 501 is Haraka's own answer to what is none. */
function rcpt(path: string, rule?: Rule, in_ = config): string {
  let address: ReturnType<typeof addressOf>
  try {
    address = addressOf(path)
  } catch {
    return '501'
  }
  const { accepted, refused } = judgeFor(in_, address, rule ? { relay: rule } : {})
  const { code, status, outcome } = accepted?.decision ?? refused!
  return `${code} ${status} ${outcome}`
}

const OURS = '250 2.1.5 recipient.ours'
const DENIED = '550 5.7.1 recipient.relay-denied'
const ROUTING = '550 5.7.1 recipient.routing'
const RELAYED = '250 2.1.5 recipient.relayed'
const UNKNOWN = '550 5.1.1 recipient.unknown'

describe('a recipient of a client that may not relay', () => {
  const cases: [string, string][] = [
    ['<a@ours.example>', OURS],
    ['<a@OURS.Example>', OURS],
    ['<a@ours。example>', OURS],
    ['<a@bücher.example>', OURS],
    ['<a@XN--BCHER-KVA.example>', OURS],
    ['<a@x.sub.example>', OURS],
    ['<a@x.y.sub.example>', OURS],
    ['<a@plugin.example>', OURS],
    ['<postmaster>', OURS],
    ['<PostMaster>', OURS],
    ['<user+tag@ours.example>', OURS],
    ['<bounce+v=other.example@ours.example>', OURS],
    ['<SRS0=hhh=tt=victim.example=v@ours.example>', OURS],
    ['<prvs=1234567890=v@ours.example>', OURS],
    ['<"a b"@ours.example>', OURS],
    ['<"a.b"@ours.example>', OURS],
    ['<bücher@ours.example>', OURS],
    ['<a@other.example>', DENIED],
    ['<a@x.ours.example>', DENIED],
    ['<a@notsub.example>', DENIED],
    ['<a@ours.example.other.example>', DENIED],
    ['<a@example>', DENIED],
    ['<a@localhost>', DENIED],
    ['<a@[192.0.2.1]>', ROUTING],
    ['<a@[IPv6:2001:db8::1]>', ROUTING],
    ['<v%victim.example@ours.example>', ROUTING],
    ['<v%victim.example@other.example>', ROUTING],
    ['<victim.example!v@ours.example>', ROUTING],
    ['<"v@victim.example"@ours.example>', ROUTING],
    ['<"v\\@victim.example"@ours.example>', ROUTING],
    ['<"a@x.example, v@victim.example"@ours.example>', ROUTING],
    ['<"a,b"@ours.example>', ROUTING],
    ['<v＠victim.example@ours.example>', ROUTING],
    ['<v﹫victim.example@ours.example>', ROUTING],
    ['<v％victim.example@ours.example>', ROUTING],
    ['<@other.example:a@ours.example>', ROUTING],
    ['<@ours.example,@x.example:v@victim.example>', ROUTING],
    ['<IMCEASMTP-v+40victim+2Eexample@ours.example>', ROUTING],
    ['<imceax400-c=us@ours.example>', ROUTING],
    ['<IMCEAEX-_o=x@ours.example>', ROUTING],
    ['<"IMCEASMTP-v+40x"@ours.example>', ROUTING],
    ['<" IMCEASMTP-v+40x"@ours.example>', ROUTING],
    ['<"\\IMCEASMTP-v+40x"@ours.example>', ROUTING],
    ['<a@ours.example.>', '501'],
    ['<v@victim.example@ours.example>', '501'],
    ['<a@ex%61mple.com>', '501'],
    ['<a>', '501'],
    ['<v%victim.example>', '501'],
  ]
  for (const [path, outcome] of cases) it(`${path} gets ${outcome}`, () => assert.equal(rcpt(path), outcome))

  it('may hold % and ! in a domain with routing_characters = allow, and never @ or a comma', () => {
    assert.equal(rcpt('<v%x@gateway.example>'), OURS)
    assert.equal(rcpt('<x!v@gateway.example>'), OURS)
    assert.equal(rcpt('<IMCEAEX-_o=x@gateway.example>'), OURS)
    for (const path of [
      '<"v@x"@gateway.example>',
      '<"v,x"@gateway.example>',
      '<@x.example:v@gateway.example>',
      '<IMCEASMTP-v+40x@gateway.example>',
      '<IMCEAEX-v+40x@gateway.example>',
    ])
      assert.equal(rcpt(path), ROUTING, path)
  })

  it('is asked of the list of its domain, in one form, with or without a tag', () => {
    for (const path of [
      '<anna@list.example>',
      '<ANNA@list.example>',
      '<"anna"@list.example>',
      '<anna+x@list.example>',
      '<postmaster@list.example>',
      '<POSTMASTER@list.example>',
    ])
      assert.equal(rcpt(path), OURS, path)
    for (const path of [
      '<ann@list.example>',
      '<annab@list.example>',
      '<+anna@list.example>',
      '<"anna "@list.example>',
      '<__proto__@list.example>',
    ])
      assert.equal(rcpt(path), UNKNOWN, path)
  })

  it('without a domain is postmaster or nobody, and nobody where no domain is ours', () => {
    assert.equal(rcpt('<postmaster>', undefined, read('[main]\n')), '550 5.1.1 recipient.no-domain')
    assert.equal(rcpt('<postmaster>', RELAY, read('[main]\n')), '550 5.1.1 recipient.no-domain')
    const nobody = judgeFor(config, { user: 'bob', host: '', original: '<bob>' }, { relay: RELAY })
    assert.equal(`${nobody.refused?.code} ${nobody.refused?.status}`, '550 5.1.3')
  })

  it('is denied for odd hosts, and no error', () => {
    for (const host of [
      '__proto__',
      'constructor',
      'x'.repeat(65_536),
      '\0',
      '\ud800',
      ' ',
      '.',
      'ours.example\0',
      'ours.example%',
      'ours.example/x',
    ]) {
      const { refused } = judgeFor(config, { user: 'a', host, original: '<a>' }, {})
      assert.equal(refused?.code, 550, host.slice(0, 20))
      assert.ok(Buffer.byteLength(refused.text) < 400)
    }
  })

  it('never has a local part that stands for an address, whatever it is made of', () => {
    const piece = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.constantFrom('"', '\\', '@', ',', '＠', '﹫', '，', '%', '!', 'IMCEA', '.', ' '),
    )
    const local = fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join(''))
    fc.assert(
      fc.property(
        fc.oneof(
          local,
          local.map((text) => `"${text}"`),
        ),
        fc.constantFrom('ours.example', 'gateway.example'),
        (user, host) => {
          const { accepted } = judgeFor(config, { user, host, original: `<${user}@${host}>` }, {})
          if (!accepted) return
          const inner = /^".*"$/s.test(user) ? user.slice(1, -1).replace(/\\(.)/gs, '$1') : user
          assert.doesNotMatch(inner.normalize('NFKC'), /[@,]/)
        },
      ),
      { numRuns: 5000 },
    )
  })
})

describe('a recipient of a client in [never]', () => {
  it('is denied by the line that says never, and taken in our domains', () => {
    const never = { file: 'acl.ini', section: 'never', key: '198.51.100.0/24' }
    const { refused } = judgeFor(config, addressOf('<a@other.example>'), { never })
    assert.deepEqual([refused?.code, refused?.status, refused?.rule], [550, '5.7.1', never])
    assert.equal(judgeFor(config, addressOf('<a@ours.example>'), { never }).accepted?.decision.code, 250)
  })
})

describe('a recipient of a client that may relay', () => {
  const cases: [string, string][] = [
    ['<a@other.example>', RELAYED],
    ['<a%b@other.example>', RELAYED],
    ['<"a@b"@other.example>', RELAYED],
    ['<a@[192.0.2.1]>', RELAYED],
    ['<IMCEASMTP-v+40x@other.example>', RELAYED],
    ['<a@ours.example>', OURS],
    ['<a%b@ours.example>', OURS],
    ['<nobody@list.example>', UNKNOWN],
    ['<IMCEASMTP-v+40x@ours.example>', ROUTING],
    ['<@x.example:a@other.example>', ROUTING],
    ['<@x.example:a@ours.example>', ROUTING],
  ]
  for (const [path, outcome] of cases)
    it(`${path} gets ${outcome}`, () => assert.equal(rcpt(path, RELAY), outcome))
})

/** What is known of who wrote a sender. `spfPass`: the domain that SPF passed for MAIL FROM. */
interface Author {
  mayRelay?: boolean
  allowed?: boolean
  own?: boolean
  spfPass?: string
}

const partyBy = (
  { mayRelay = false, allowed, spfPass }: Author,
  mailFrom: { user: string; host: string },
) => ({
  ...STRANGER,
  mayRelay,
  sender: mailFrom,
  ...(allowed && { ip: '192.0.2.77' }),
  senderSpf: spfPass && spfPass === mailFrom.host ? ('pass' as const) : ('no' as const),
})

const sender = (path: string, author: Author = {}, in_ = config) => {
  const address = addressOf(path)
  const decision = judgeSender(in_, address, partyBy(author, address), () => author.own === true)
  return decision && `${decision.code} ${decision.outcome}`
}

describe('MAIL FROM in one of our domains', () => {
  const FORGED = '550 sender.forged'
  it('by a stranger is refused, however it is written, and so is a bare <postmaster>', () => {
    for (const path of [
      '<boss@ours.example>',
      '<boss@OURS.example>',
      '<boss@ours。example>',
      '<"boss"@ours.example>',
      '<x@a.b.sub.example>',
      '<x@BÜCHER.example>',
      '<postmaster>',
      '<Postmaster>',
      '<postmaster@ours.example>',
      '<@x.example:boss@ours.example>',
    ])
      assert.equal(sender(path), FORGED, path)
  })

  it('is not what is elsewhere, under a domain without subdomains, or null', () => {
    for (const path of [
      '<>',
      '<a@other.example>',
      '<a@x.ours.example>',
      '<a@[192.0.2.1]>',
      '<ours.example@other.example>',
    ])
      assert.equal(sender(path), undefined, path)
    assert.equal(sender('<postmaster>', {}, read('[main]\n')), undefined)
  })

  it('is free for who may relay, who is listed, who owns it, and after an SPF pass for that very domain', () => {
    for (const author of [{ mayRelay: true }, { allowed: true }, { own: true }, { spfPass: 'ours.example' }])
      assert.equal(sender('<boss@ours.example>', author), undefined)
    for (const spf of ['other.example', 'sub.example', 'x.ours.example', 'example', ''])
      assert.equal(sender('<boss@ours.example>', { spfPass: spf }), FORGED, spf)
    assert.equal(sender('<x@a.sub.example>', { spfPass: 'sub.example' }), FORGED)
    assert.equal(sender('<postmaster>', { spfPass: 'ours.example' }), FORGED)
  })

  it('gets a tag or nothing where the operator says so', () => {
    const tag = read(`[main]\nanti_spoof = tag\n[ours.example]\n${HOP}\n`)
    assert.equal(sender('<boss@ours.example>', {}, tag), '250 sender.forged-tagged')
    const off = read(`[main]\nanti_spoof = off\n[ours.example]\n${HOP}\n`)
    assert.equal(sender('<boss@ours.example>', {}, off), undefined)
  })
})

describe('From: in one of our domains', () => {
  const strict = read(
    `[main]\nanti_spoof_from = reject\n[ours.example]\n${HOP}\n[sub.example]\n${HOP}\nsubdomains = true\n`,
  )
  const from = (hosts: string[], author: Author = {}) =>
    judgeFrom(
      strict,
      hosts.map((host) => ({ user: 'boss', host })),
      partyBy(author, { user: 'x', host: author.spfPass ?? 'other.example' }),
      () => false,
    )?.code

  it('by a stranger is refused, wherever it stands among others', () => {
    assert.equal(from(['ours.example']), 550)
    assert.equal(from(['x.example', 'Ours.Example.']), 550)
    assert.equal(from(['x.sub.example']), 550)
    assert.equal(from(['x.example', '']), 550)
    assert.equal(from(['x.example']), undefined)
    assert.equal(from([]), undefined)
  })

  it('is excused by an SPF pass for a name of the same domain of ours, not by one for another', () => {
    assert.equal(from(['ours.example'], { spfPass: 'ours.example' }), undefined)
    assert.equal(from(['x.sub.example'], { spfPass: 'sub.example' }), undefined)
    assert.equal(from(['ours.example'], { spfPass: 'evil.example' }), 550)
    assert.equal(from(['ours.example'], { spfPass: 'sub.example' }), 550)
    assert.equal(from(['ours.example', 'sub.example'], { spfPass: 'ours.example' }), 550)
    assert.equal(from(['ours.example'], { mayRelay: true }), undefined)
  })

  it('is tagged by default', () => {
    assert.equal(
      judgeFrom(config, [{ user: 'a', host: 'ours.example' }], STRANGER, () => false)?.outcome,
      'from.forged-tagged',
    )
  })
})

describe('an SPF pass', () => {
  const pass = (result: Record<string, unknown>, mail = '<a@ours.example>') => {
    const connection = connectionOf()
    connection.begin(mail).results.add({ name: 'spf' }, result)
    return senderSpf(connection)
  }
  it('is one of MAIL FROM in this transaction', () => {
    assert.equal(pass({ scope: 'mfrom', result: 'Pass', domain: 'ours.example' }), 'pass')
    for (const result of [
      { scope: 'helo', result: 'Pass', domain: 'ours.example' },
      { scope: 'mfrom', result: 'SoftFail', domain: 'ours.example' },
      { scope: 'mfrom', result: 'Neutral', domain: 'ours.example' },
      { scope: 'mfrom', result: 'Pass', domain: 'other.example' },
      { result: 'Pass', domain: 'ours.example' },
      { pass: 'ours.example' },
    ])
      assert.equal(pass(result), 'no', JSON.stringify(result))
    assert.equal(pass({ scope: 'mfrom', result: 'Pass', domain: '' }, '<>'), 'no')
    assert.equal(pass({ scope: 'mfrom', result: 'Pass', domain: '' }, '<postmaster>'), 'no')
  })

  it('cannot be told where the plugin is loaded and gave no answer, as after a timeout of DNS', () => {
    const answers = (plugins: string[], isPrivate = false) => {
      expectSpf(pluginOf('relay-guard/test', { plugins }).plugin)
      const connection = connectionOf()
      connection.remote.is_private = isPrivate
      const { results } = connection.begin('<a@ours.example>')
      const none = senderSpf(connection)
      results.add({ name: 'spf' }, { skip: 'host(whitelisted)' })
      const skipped = senderSpf(connection)
      results.add({ name: 'spf' }, { scope: 'mfrom', result: 'TempError', domain: 'ours.example' })
      return [none, skipped, senderSpf(connection)]
    }
    assert.deepEqual(answers(['tls', 'spf']), ['cannot tell', 'no', 'cannot tell'])
    assert.deepEqual(answers(['haraka-plugin-spf']), ['cannot tell', 'no', 'cannot tell'])
    assert.deepEqual(answers(['spf'], true), ['no', 'no', 'cannot tell'])
    assert.deepEqual(answers(['tls']), ['no', 'no', 'cannot tell'])
  })

  it('of HELO, on the connection, or of the transaction before does not count', () => {
    const connection = connectionOf()
    assert.equal(senderSpf(connection), 'no')
    connection.results.add({ name: 'spf' }, { scope: 'mfrom', result: 'Pass', domain: 'ours.example' })
    connection.begin('<a@ours.example>')
    assert.equal(senderSpf(connection), 'no')
    connection.transaction?.results.add(
      { name: 'spf' },
      { scope: 'mfrom', result: 'Pass', domain: 'ours.example' },
    )
    assert.equal(senderSpf(connection), 'pass')
    connection.end()
    connection.begin('<a@ours.example>')
    assert.equal(senderSpf(connection), 'no')
  })
})

describe('the way of a domain', () => {
  it('is shared under forward by the same next hop, and under queue and plugin by all', () => {
    const { domains } = read(
      `[a.example]\n${HOP}\n[b.example]\n${HOP}\n[c.example]\n${HOP}\ntls = verify\n[d.example]\n${HOP}\ndelivery = queue\n[e.example]\nnext_hop = smtp://10.0.0.9\ndelivery = queue\n[f.example]\ndelivery = plugin\n`,
    )
    const [a, b, c, d, e, f] = domains.all().map((domain) => deliveryChoiceOf(domain).key)
    assert.equal(a, b)
    assert.equal(d, e)
    assert.equal(new Set([a, c, d, f]).size, 4)
  })
})
