// Domains in Redis without Haraka: the table, and what is known for how long.
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { hashReader } from '../plugins/domains/redis/hash'
import { namesAbove } from '../plugins/domains/table'
import { fc } from './support/random'
import { HOP, nameOf, section, world } from './support/redis-domains'

describe('a table with domains in Redis', () => {
  it('cannot tell what was not looked up, and knows what the files say all the same', () => {
    const { config } = world(
      '[main]\nredis = true\n[ours.example]\nnext_hop = smtp://10.0.0.5\n[sub.example]\nnext_hop = smtp://10.0.0.5\nsubdomains = true\n',
    )
    assert.equal(nameOf(config, 'ours.example'), 'domains.ini ours.example')
    assert.equal(nameOf(config, 'a.b.sub.example'), 'domains.ini sub.example')
    assert.deepEqual(config.domains.namesInRedis('a.b.sub.example'), [])
    assert.equal(nameOf(config, 'other.example'), 'cannot tell')
    assert.equal(nameOf(config, 'a.ours.example'), 'cannot tell')
  })

  it('lets the file go before Redis, and Redis have no say about a name in the file', () => {
    const { config, learn } = world('[main]\nredis = true\n[ours.example]\nnext_hop = smtp://10.0.0.5\n')
    learn('ours.example', { ...HOP, subdomains: 'true' })
    for (const name of ['a.ours.example', 'example']) learn(name, 'none')
    assert.equal(nameOf(config, 'ours.example'), 'domains.ini ours.example')
    assert.equal(nameOf(config, 'a.ours.example'), 'not ours')
  })

  it('takes the nearest name, and a parent with subdomains = true only', () => {
    const { config, learn } = world()
    learn('example', { ...HOP, subdomains: 'true' })
    learn('b.example', HOP)
    learn('a.b.example', 'none')
    learn('x.example', 'none')
    assert.equal(nameOf(config, 'b.example'), 'Redis domain:b.example')
    assert.equal(nameOf(config, 'a.b.example'), 'Redis domain:example')
    assert.equal(nameOf(config, 'x.example'), 'Redis domain:example')
    assert.equal(nameOf(config, 'y.x.example'), 'cannot tell')
  })

  it('asks for the name itself and ten above it at most', () => {
    const deep = `${'a.'.repeat(100)}example`
    assert.equal(namesAbove(deep).length, 11)
    assert.deepEqual(namesAbove('a.b.c'), ['a.b.c', 'b.c', 'c'])
    const { errors } = hashReader({ ...section, ca: '' })(`${'a.'.repeat(10)}b`, {
      ...HOP,
      subdomains: 'true',
    })
    assert.match(errors[0]?.text ?? '', /has no effect on a name of more than 10 labels/)
  })

  it('never makes a domain ours that Redis does not have, whatever else is known', () => {
    // Few, so that each often has an answer, and so have those above it.
    const name = fc.constantFrom('a', 'b.a', 'c.b.a', 'd.c.b.a', 'b')
    const answer = fc.constantFrom(
      'none',
      'no hash',
      {},
      HOP,
      { ...HOP, subdomains: 'true' },
      { ...HOP, tls: 'x' },
      { ...HOP, tls: 'x', subdomains: 'yes' },
    )
    fc.assert(
      fc.property(fc.array(fc.tuple(name, answer), { minLength: 4, maxLength: 12 }), name, (all, host) => {
        const { config, learn } = world()
        const last = new Map<string, unknown>()
        for (const [each, said] of all) {
          // Redis has no empty hash.
          const what = typeof said === 'object' && Object.keys(said).length === 0 ? 'none' : said
          learn(each, what as 'none')
          last.set(each, what)
        }
        /** Written anew from docs/domains.md. */
        const expected = () => {
          for (const each of namesAbove(host)) {
            const said = last.get(each) as 'none' | 'no hash' | undefined | Record<string, string>
            if (said === undefined) return 'cannot tell'
            if (said === 'none') continue
            if (said === 'no hash' && each === host) return 'cannot tell'
            if (said === 'no hash') continue
            const isMeant = each === host || said['subdomains'] !== undefined
            if (isMeant) return said['tls'] ? 'cannot tell' : `Redis domain:${each}`
          }
          return 'not ours'
        }
        assert.equal(nameOf(config, host), expected())
      }),
    )
  })
})

describe('what is known of a domain in Redis', () => {
  it('is kept for as long as Redis says nothing else; that it is none for 5 s', () => {
    const { config, learn, time, known } = world()
    learn('ours.example', HOP)
    for (const name of ['other.example', 'example']) learn(name, 'none')
    assert.equal(nameOf(config, 'other.example'), 'not ours')
    time.now += 3999
    assert.ok(known.isFresh('ours.example') && known.isFresh('other.example'))
    time.now += 1
    assert.ok(!known.isFresh('ours.example') && !known.isFresh('other.example'))
    assert.equal(nameOf(config, 'other.example'), 'not ours')
    time.now += 1000
    assert.equal(nameOf(config, 'other.example'), 'cannot tell')
    time.now += 1e9
    assert.equal(nameOf(config, 'ours.example'), 'Redis domain:ours.example')
    learn('ours.example', 'none')
    for (const name of ['example']) learn(name, 'none')
    assert.equal(nameOf(config, 'ours.example'), 'not ours')
  })

  it('counts for a sender for an hour that he is none of ours, so that an outage of Redis does not stop his mail', () => {
    const { config, learn, time } = world()
    for (const name of ['other.example', 'example']) learn(name, 'none')
    time.now += 3_599_999
    assert.equal(config.domains.find('other.example', 'an hour'), undefined)
    assert.equal(config.domains.find('other.example'), 'cannot tell')
    learn('other.example', HOP)
    assert.equal(nameOf(config, 'other.example'), 'Redis domain:other.example')
    learn('other.example', 'none')
    time.now += 3_600_000
    assert.equal(config.domains.find('other.example', 'an hour'), 'cannot tell')
  })

  it('is the same Domain while nothing changed, and another one when something did', () => {
    const { config, learn, time } = world()
    learn('ours.example', HOP)
    const first = config.domains.find('ours.example')
    time.now += 9000
    learn('ours.example', { ...HOP })
    assert.equal(config.domains.find('ours.example'), first)
    learn('ours.example', { ...HOP, subdomains: 'false' })
    assert.notEqual(config.domains.find('ours.example'), first)
  })

  it('does not go back to what was asked before', () => {
    const { config, known, time } = world()
    known.learn('ours.example', HOP, time.now)
    known.learn('ours.example', 'none', time.now - 1)
    assert.equal(nameOf(config, 'ours.example'), 'Redis domain:ours.example')
  })

  it('is bounded, and a flood of made-up names displaces none of ours', () => {
    const { config, learn, known } = world(undefined, 100)
    learn('ours.example', HOP)
    for (let i = 0; i < 1000; i++) learn(`made-up-${i}.example`, 'none')
    assert.equal(known.size, 101)
    assert.equal(nameOf(config, 'ours.example'), 'Redis domain:ours.example')
    for (let i = 0; i < 1000; i++) learn(`ours-${i}.example`, HOP)
    assert.equal(known.size, 200)
  })

  it('is read anew by another configuration, also while Redis is away', () => {
    const { config, learn, read } = world()
    learn('ours.example', { ...HOP, next_hop: 'smtp://127.0.0.1:2525' })
    const again = read('[main]\nredis = true\nsmarthost = smtp://10.0.0.9\n')
    assert.notEqual(again.domains.find('ours.example'), config.domains.find('ours.example'))
    assert.equal(nameOf(again, 'ours.example'), 'Redis domain:ours.example')
  })
})

describe('a hash that is bad', () => {
  const bad: [string, Record<string, string> | 'no hash', RegExp][] = [
    ['without a next hop', { tls: 'may' }, /^Redis \[domain:bad\.example\] next_hop: is missing; /],
    [
      'with our own listener',
      { next_hop: 'smtp://127.0.0.1:25' },
      /next_hop: smtp:\/\/127\.0\.0\.1:25 is a listener of this server itself/,
    ],
    [
      'with a wrong word',
      { ...HOP, tls: 'maybe' },
      /\] tls: is not one of none, may, encrypt, verify; mail for it gets 451/,
    ],
    [
      'with an unknown key',
      { ...HOP, nexthop: 'x' },
      /\] nexthop: is not a key of this section; did you mean next_hop\?/,
    ],
    [
      'with a URL for a key',
      { ...HOP, 'smtp://me:secret@h': 'next_hop' },
      /\] field 2: is not a key of this section/,
    ],
    [
      'with a password in what cannot be read',
      { next_hop: 'smtp:/me:secret@h' },
      /\] next_hop: not a next hop/,
    ],
    ['with a line end', { next_hop: 'smtp://10.0.0.5\r\nRCPT TO:<x@y>' }, /holds a control character/],
    ['that is not UTF-8', { ...HOP, recipients: '\ufffd@bad.example' }, /not UTF-8/],
    [
      'with strangers in recipients',
      { ...HOP, recipients: 'a@bad.example,b@other.example' },
      /\] recipients: number 2 is not in this domain/,
    ],
    [
      'with __proto__',
      JSON.parse('{"next_hop":"smtp://10.0.0.5","__proto__":"x"}'),
      /\] field 2: is not a key/,
    ],
    ['of another type', 'no hash', /^Redis \[domain:bad\.example\]: is no hash; mail for it gets 451/],
  ]
  for (const [what, answer, line] of bad)
    it(`${what} is told once, shows no secret, and is neither ours nor not ours`, () => {
      const { config, learn, log, time } = world()
      for (let i = 0; i < 5; i++) {
        learn('bad.example', answer)
        assert.equal(nameOf(config, 'bad.example'), 'cannot tell')
        time.now += 5000
      }
      assert.equal(log.length, 1)
      assert.match(log[0]!, line)
      assert.doesNotMatch(log[0]!, /secret|me:|RCPT/)
      learn('bad.example', HOP)
      assert.equal(nameOf(config, 'bad.example'), 'Redis domain:bad.example')
      learn('bad.example', answer)
      assert.equal(nameOf(config, 'bad.example'), 'cannot tell')
      assert.equal(log.length, 2)
    })

  it('reads lists as one line with commas, and `recipients[]` as `recipients`', () => {
    const { config, learn } = world()
    learn('a.example', {
      next_hop: 'smtp://10.0.0.5, smtp://10.0.0.6:26',
      'recipients[]': 'Anna@a.example,b@a.example',
    })
    const found = config.domains.find('a.example')
    assert.ok(typeof found === 'object')
    assert.deepEqual([...(found.recipients ?? [])], ['anna@a.example', 'b@a.example'])
    assert.equal(Array.isArray(found.route?.hops) && found.route.hops.length, 2)
  })
})
