// What the policies answer where it cannot be told whether a domain is ours.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Party, SpfAnswer } from '../core/party'
import type { DomainsConfig } from '../plugins/domains/config'
import { queuedRoute } from '../plugins/domains/policy/queued-route'
import { judgeRecipient } from '../plugins/domains/policy/recipient'
import { judgeFrom, judgeSender } from '../plugins/domains/policy/sender'
import { addressOf } from './support/connection'
import { HOP, world } from './support/redis-domains'

const stranger: Party = {
  ip: '203.0.113.9',
  tls: false,
  classification: { class: 'nobody' },
  mayRelay: false,
  senderSpf: 'no',
}
const relayRule = { file: 'acl.ini', section: 'relay', key: '10.0.0.0/8' }
const relayClient: Party = { ...stranger, mayRelay: true, relayRule }

describe('a policy that cannot tell', () => {
  const main = (rest: string) => `[main]\nredis = true\n${rest}`

  it('answers 451 4.3.0 to a recipient, whoever sends, and 550 for a source route', () => {
    const { config } = world(main('postmaster = a@redis.example\n'))
    for (const party of [stranger, relayClient])
      for (const path of ['<a@x.example>', '<postmaster>', '<v%victim.example@x.example>']) {
        const { refused } = judgeRecipient(config, addressOf(path), party)
        assert.equal(
          `${refused?.code} ${refused?.status} ${refused?.outcome}`,
          '451 4.3.0 recipient.domain-unknown',
          path,
        )
      }
    assert.equal(judgeRecipient(config, addressOf('<@h.example:a@x.example>'), stranger).refused?.code, 550)
  })

  it('sends <postmaster> to a domain in Redis once it is known, and refuses it where it is none', () => {
    const { config, learn } = world(main('postmaster = a@redis.example\n'))
    learn('redis.example', HOP)
    assert.deepEqual(judgeRecipient(config, addressOf('<postmaster>'), stranger).accepted?.instead, {
      user: 'a',
      host: 'redis.example',
    })
    learn('redis.example', 'none')
    learn('example', 'none')
    assert.equal(judgeRecipient(config, addressOf('<postmaster>'), stranger).refused?.code, 550)
  })

  const sender = (config: DomainsConfig, party: Party, host = 'x.example') => {
    const decision = judgeSender(config, { user: 'a', host }, party, () => false)
    return decision ? `${decision.code} ${decision.outcome}` : 'accept'
  }

  it('excuses a sender as ever, and defers the others or tags them as unknown', () => {
    const reject = world(main('spoof_allowed = 192.0.2.1\n')).config
    assert.equal(sender(reject, stranger), '451 sender.domain-unknown')
    assert.equal(sender(reject, relayClient), 'accept')
    assert.equal(sender(reject, { ...stranger, ip: '192.0.2.1' }), 'accept')
    assert.equal(sender(reject, { ...stranger, senderSpf: 'pass' }), 'accept')
    assert.equal(sender(reject, { ...stranger, senderSpf: 'cannot tell' }), '451 sender.domain-unknown')
    assert.equal(
      sender(world(main('anti_spoof = tag\n')).config, stranger),
      '250 sender.domain-unknown-tagged',
    )
    assert.equal(sender(world(main('anti_spoof = off\n')).config, stranger), 'accept')
  })

  it('judges From: by the worst address, and never says no where the domain of MAIL FROM may be the same', () => {
    const { config, learn } = world(main('anti_spoof_from = reject\n'))
    learn('sub.example', { ...HOP, subdomains: 'true' })
    for (const name of ['foreign.test', 'test', 'y.known.test', 'known.test']) learn(name, 'none')
    const from = (hosts: string[], mailFrom: string, senderSpf: SpfAnswer) => {
      const party = { ...stranger, sender: { user: 'a', host: mailFrom }, senderSpf }
      const decision = judgeFrom(
        config,
        hosts.map((host) => ({ user: 'a', host })),
        party,
        () => false,
      )
      return decision ? `${decision.code} ${decision.outcome}` : 'accept'
    }
    const unknown = '451 from.domain-unknown'
    assert.equal(from(['foreign.test'], 'foreign.test', 'no'), 'accept')
    assert.equal(from(['x.unknown'], 'x.unknown', 'pass'), 'accept')
    assert.equal(from(['x.unknown'], 'x.unknown', 'no'), unknown)
    assert.equal(from(['x.unknown'], 'foreign.test', 'pass'), unknown)
    assert.equal(from(['x.unknown', 'sub.example'], 'foreign.test', 'no'), '550 from.forged')
    // y.sub.example is not looked up: it may be in sub.example, or a domain by itself.
    assert.equal(from(['sub.example'], 'y.sub.example', 'pass'), unknown)
    assert.equal(from(['sub.example'], 'y.sub.example', 'cannot tell'), unknown)
    assert.equal(from(['sub.example'], 'y.sub.example', 'no'), '550 from.forged')
    learn('y.sub.example', 'none')
    assert.equal(from(['sub.example'], 'y.sub.example', 'pass'), 'accept')
  })

  it('keeps queued mail from the MX, the smarthost and every other route', () => {
    const { config, learn } = world(main('smarthost = smtp://10.0.0.9\n'))
    for (const memory of [undefined, {}, { mayRelay: true }, { mayRelay: false }]) {
      const { held, route, othersMayRoute } = queuedRoute(config, 'x.example', memory)
      assert.deepEqual(
        [held?.code, held?.status, held?.outcome, route, othersMayRoute],
        [451, '4.3.0', 'message.domain-unknown', undefined, undefined],
      )
    }
    learn('x.example', HOP)
    assert.ok(queuedRoute(config, 'x.example', { mayRelay: false }).route)
    for (const name of ['x.example', 'example']) learn(name, 'none')
    assert.equal(queuedRoute(config, 'x.example', { mayRelay: false }).held?.outcome, 'message.domain-gone')
    assert.equal(queuedRoute(config, 'x.example', { mayRelay: true }).route, config.smarthost)
  })
})
