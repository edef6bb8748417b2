// The whole space of the relay decision: every class of client, local end, login and right that others give or take, with
// every form of address, goes through the real parts, and each answer is held against the naive model.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { decide, walk } from '../core/checks'
import { partyOf } from '../core/haraka/party-of'
import { mayRelay, takeOverRelaying } from '../core/haraka/relaying'
import type { SpfAnswer } from '../core/party'
import { registry } from '../core/registry'
import { runAtOnce } from '../core/time-slices'
import { readAcl } from '../plugins/acl/config'
import { classify } from '../plugins/acl/policy'
import { readDomains } from '../plugins/domains/config'
import { senderRefusal } from '../plugins/domains/hooks/mail'
import { runtime } from '../plugins/domains/hooks/runtime'
import { type AddressFeatures, featuresOf } from '../plugins/domains/policy/address-features'
import { judgeRecipient, RECIPIENT_CHECKS, recipientFacts } from '../plugins/domains/policy/recipient'
import {
  judgeSender,
  SENDER_CHECKS,
  type SenderAnswer,
  type SenderFacts,
} from '../plugins/domains/policy/sender'
import { connectionOf, pluginOf } from './support/connection'
import { type ModelAddress, verdict, written } from './support/model'
import { fc } from './support/random'
import { readText } from './support/reading'

takeOverRelaying(pluginOf().plugin)

const aclText = `[reject]
192.0.2.1
[never]
192.0.2.2
[relay]
192.0.2.3
192.0.2.0/30
[listener]
198.51.100.25
`
const acl = readText('acl.ini', aclText, (reading) => runAtOnce(readAcl(reading))).value
registry.acl = { classify: (client) => classify(acl, client), generation: () => 1 }

const hop = 'next_hop = smtp://10.0.0.5'
const domainsOf = (rest: string) =>
  readText('domains.ini', rest, (reading) =>
    readDomains(reading, { ownListener: () => false, hostName: 'mx' }),
  ).value
const domains = domainsOf(`[ours.example]
${hop}
[sub.example]
${hop}
subdomains = true
[gateway.example]
${hop}
routing_characters = allow
[list.example]
${hop}
recipients[] = ann@list.example, "x y"@list.example
[gatelist.example]
${hop}
routing_characters = allow
recipients[] = ann@gatelist.example
`)

const world = {
  domains: {
    'ours.example': false,
    'sub.example': true,
    'gateway.example': false,
    'list.example': false,
    'gatelist.example': false,
  },
  unknown: '\0',
  gateways: ['gateway.example', 'gatelist.example'],
  lists: { 'list.example': ['ann', 'x y'], 'gatelist.example': ['ann'] },
}

/** Every combination of one value of each list. */
function* product<T extends Record<string, readonly unknown[]>>(
  lists: T,
): Generator<{ [K in keyof T]: T[K][number] }> {
  const names = Object.keys(lists)
  const total = names.reduce((size, name) => size * lists[name]!.length, 1)
  for (let n = 0; n < total; n++) {
    let rest = n
    const one: Record<string, unknown> = {}
    for (const name of names) {
      const list = lists[name]!
      one[name] = list[rest % list.length]
      rest = Math.floor(rest / list.length)
    }
    yield one as { [K in keyof T]: T[K][number] }
  }
}

const addresses = [
  ...product({
    domain: [
      'ours.example',
      'sub.example',
      'deep.sub.example',
      'gateway.example',
      'list.example',
      'gatelist.example',
      'other.example',
      'x.ours.example',
      '[192.0.2.9]',
    ],
    route: ['', '@hop.example:', '@hop.example,@ours.example:'],
    local: [
      'ann',
      'ann+tag',
      'postmaster',
      '"x y"',
      'bob',
      'v%victim.example',
      'victim.example!v',
      '"v@victim.example"',
      '"a,b"',
      '"v@victim.example%x"',
      'IMCEASMTP-v+40victim+2Eexample',
      'imceaex-_o=x',
      '"IMCEAEX-v@x"',
      '"imceaex-v%x"',
      'x-imceasmtp-v',
    ],
  }),
  { domain: '', route: '', local: 'postmaster' },
  { domain: '', route: '', local: 'Postmaster' },
  { domain: '', route: '', local: 'bob' },
] satisfies ModelAddress[]

const clients = [
  ...product({
    ip: ['192.0.2.1', '192.0.2.2', '192.0.2.3', '203.0.113.9'],
    localAddress: ['198.51.100.25', '198.51.100.26'],
    right: ['none', 'login', 'plugin'],
    revoked: [false, true],
    setInside: [false, true],
  }),
]

function connectionFor({ ip, localAddress, right, revoked, setInside }: (typeof clients)[number]) {
  const connection = connectionOf({ remoteAddress: ip, localAddress })
  if (right !== 'none') connection.relaying = true
  if (right === 'login') connection.notes.auth_user = 'ann'
  connection.begin('<a@b.example>')
  if (revoked) connection.relaying = false
  if (setInside) connection.relaying = true
  return connection
}

const pathOf = (address: ModelAddress) => ({
  user: address.local,
  host: address.domain,
  original: written(address),
})

describe('the relay decision', () => {
  it(`has the model's answer for ${clients.length} kinds of client and ${addresses.length} forms of address`, () => {
    let relayed = 0
    for (const client of clients) {
      const party = partyOf(connectionFor(client))
      const never = client.ip === '192.0.2.1' || client.ip === '192.0.2.2' || client.revoked
      const relay =
        client.ip === '192.0.2.3' || client.localAddress === '198.51.100.25' || client.right !== 'none'
      assert.equal(party.mayRelay, relay && !never, JSON.stringify(client))
      for (const address of addresses) {
        const { accepted, refused } = judgeRecipient(domains, pathOf(address), party)
        const { code, status } = accepted?.decision ?? refused!
        const expected = verdict(world, { never, relay, spoofAllowed: false }, null, address)
        const got = code === 250 ? `${code}` : `${code} ${status}`
        const wanted = expected.code === 250 ? '250' : `${expected.code} ${expected.status}`
        assert.equal(got, wanted, `${JSON.stringify(client)} ${written(address)}`)
        if (accepted && !accepted.domain && address.domain !== '') relayed++
      }
    }
    assert.ok(relayed > 0, 'nothing was relayed: the test asks nothing')
  })

  it('never gives the right for something set inside a transaction', () => {
    const connection = connectionOf({ remoteAddress: '203.0.113.9' })
    connection.begin('<a@b.example>')
    connection.relaying = true
    assert.equal(mayRelay(connection), false)
  })
})

const features = {
  domain: ['ours', 'under ours', 'other', 'literal', 'none', 'cannot tell'],
  local: ['empty', 'postmaster', 'other'],
  sourceRoute: [false, true],
  innerAddress: [false, true],
  routingCharacters: [false, true],
  encapsulated: ['no', 'directory name', 'address'],
} as const satisfies { [K in keyof AddressFeatures]: readonly AddressFeatures[K][] }

const recipients = [
  ...product({
    ...features,
    mayRelay: [false, true],
    never: [false, true],
    routingAllowed: [false, true],
    listed: [false, true],
    postmasterServed: [false, true, 'cannot tell'],
  }),
]

describe('the list of checks of a recipient', () => {
  it(`answers each of ${recipients.length} combinations, and relays for nobody without the right`, () => {
    for (const facts of recipients) {
      const answer = decide(RECIPIENT_CHECKS, facts)
      const isOurs = facts.domain === 'ours' || facts.domain === 'under ours'
      const asks = facts.sourceRoute || facts.innerAddress || facts.encapsulated === 'address'
      if (answer === 'accept: relayed') assert.ok(facts.mayRelay && !isOurs && !facts.sourceRoute)
      if (answer === 'accept: ours') assert.ok(isOurs && !facts.sourceRoute && (facts.mayRelay || !asks))
      if (facts.domain === 'cannot tell')
        assert.equal(answer, facts.sourceRoute ? 'refuse: a source route' : 'defer: cannot tell')
      if (answer === 'accept: postmaster') assert.equal(facts.domain, 'none')
      if (facts.never)
        assert.equal(
          answer.startsWith('accept'),
          decide(RECIPIENT_CHECKS, { ...facts, never: false }).startsWith('accept'),
        )
      assert.deepEqual(
        walk(RECIPIENT_CHECKS, facts).find((check) => check.answer !== undefined)?.answer,
        answer,
      )
    }
  })

  it('has no check that never decides', () => {
    const deciding = new Set(
      recipients.map(
        (facts) => walk(RECIPIENT_CHECKS, facts).find(({ answer }) => answer !== undefined)?.name,
      ),
    )
    assert.deepEqual(
      RECIPIENT_CHECKS.map(({ name }) => name).filter((name) => !deciding.has(name)),
      [],
    )
  })
})

describe('the list of checks of a sender', () => {
  const all = [
    ...product({
      action: ['reject', 'tag', 'off'],
      claims: ['nothing', 'the domain of MAIL FROM', 'another domain', 'cannot tell'],
      mayRelay: [false, true],
      spoofAllowed: [false, true],
      own: [false, true],
      spf: ['pass', 'no', 'cannot tell'],
    } as const satisfies { [K in keyof SenderFacts]: readonly SenderFacts[K][] }),
  ]

  /** Written from the contract, in another order. */
  function expected({ action, claims, mayRelay, spoofAllowed, own, spf }: SenderFacts): SenderAnswer {
    const excused = claims === 'nothing' || mayRelay || spoofAllowed || own
    const known = claims === 'the domain of MAIL FROM' ? spf : 'no'
    if (excused || known === 'pass' || action === 'off') return 'accept'
    if (claims === 'cannot tell') return action === 'tag' ? 'tag: cannot tell' : claims
    if (action === 'tag') return 'tag'
    return known === 'cannot tell' ? 'defer' : 'refuse'
  }

  it(`has the answer of the contract for each of ${all.length} combinations`, () => {
    for (const facts of all)
      assert.equal(decide(SENDER_CHECKS, facts), expected(facts), JSON.stringify(facts))
  })

  it('says 451 4.4.3, and not that it is forged, where DNS did not answer for SPF', () => {
    const strict = domainsOf(`[main]\nanti_spoof = reject\n[ours.example]\n${hop}\n`)
    const answer = (senderSpf: SpfAnswer) => {
      const sender = { user: 'boss', host: 'ours.example' }
      const party = { ...partyOf(connectionOf()), sender, senderSpf }
      const decision = judgeSender(strict, sender, party, () => false)
      return decision && `${decision.code} ${decision.status}`
    }
    assert.deepEqual((['pass', 'no', 'cannot tell'] as const).map(answer), [
      undefined,
      '550 5.7.1',
      '451 4.4.3',
    ])
  })
})

describe('MAIL FROM in a transaction that is open', () => {
  const { plugin } = pluginOf()
  const config = domainsOf(`[main]\nanti_spoof = reject\n[ours.example]\n${hop}\n`)
  const clients = { 'in [relay]': '192.0.2.3', 'logged in': '203.0.113.9' }
  const acl = registry.acl!
  let generation = 1

  for (const [who, remoteAddress] of Object.entries(clients))
    it(`is judged anew where acl.ini or auth.ini alone was reloaded: ${who}`, () => {
      runtime.domains = { value: config, generation: 1 } as typeof runtime.domains
      const connection = connectionOf({ remoteAddress })
      if (who === 'logged in') {
        connection.relaying = true
        connection.notes.auth_user = 'boss@ours.example'
      }
      connection.begin('<boss@ours.example>')
      assert.equal(senderRefusal(plugin, connection), undefined)
      registry.acl = { classify: () => ({ class: 'nobody' }), generation: () => ++generation }
      registry.loginHolds = () => false
      assert.equal(senderRefusal(plugin, connection)?.code, 550)
      registry.acl = acl
      delete registry.loginHolds
    })
})

describe('the features of an address', () => {
  const piece = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 5 }),
    fc.constantFrom('"', '\\', '@', ',', '＠', '﹫', '，', '%', '!', '％', 'IMCEA', 'imceaEX-', '+40', ' '),
  )
  const local = fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join(''))
  const host = fc.oneof(
    fc.constantFrom('', 'ours.example', 'OURS.example.', 'a.sub.example', '[1.2.3.4]', 'other.example'),
    fc.string({ unit: 'binary', maxLength: 12 }),
  )

  it('are made of anything, without an error, and each is one of its values', () => {
    fc.assert(
      fc.property(local, host, fc.constantFrom('', '@a.example:'), (user, host, route) => {
        const { features: found } = featuresOf(
          { user, host, original: `<${route}${user}@${host}>` },
          domains.domains,
        )
        for (const [name, values] of Object.entries(features))
          assert.ok((values as readonly unknown[]).includes(found[name as keyof AddressFeatures]), name)
      }),
      { numRuns: 5000, seed: 1 },
    )
  })

  it('do not change by quotes or by a backslash before each character', () => {
    const path = (user: string) => ({ user, host: 'ours.example', original: '<x@ours.example>' })
    const plain = local.map((text) => text.replace(/["\\]/g, ''))
    fc.assert(
      fc.property(plain, (text) => {
        const escaped = [...text].map((character) => `\\${character}`).join('')
        const [bare, quoted, backslashed] = [text, `"${text}"`, `"${escaped}"`].map(
          (user) => featuresOf(path(user), domains.domains).features,
        )
        assert.deepEqual([quoted, backslashed], [bare, bare])
      }),
      { numRuns: 5000, seed: 2 },
    )
  })

  it('see a second address wherever it is hidden', () => {
    const hidden = fc.tuple(local, fc.constantFrom('@', ',', '＠', '﹫', '，'), local)
    fc.assert(
      fc.property(hidden, ([before, at, after]) => {
        const user = `"${`${before}${at}${after}`.replace(/["\\]/g, '')}"`
        const address = { user, host: 'ours.example', original: '<x@ours.example>' }
        const stranger = { mayRelay: false, classification: { class: 'nobody' as const } }
        const { facts } = recipientFacts(domains, address, stranger)
        assert.equal(facts.innerAddress, true)
        assert.match(decide(RECIPIENT_CHECKS, facts), /^refuse: /)
      }),
      { numRuns: 5000, seed: 3 },
    )
  })
})
