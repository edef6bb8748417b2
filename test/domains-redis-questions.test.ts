// Questions about domains to a real Redis, which hangs, is killed, and is a Cluster.
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { closeRedis, openRedis, whenReady } from '../core/redis/connection'
import { makeKeys } from '../core/redis/keys'
import type { SharedRedis } from '../core/services'
import { KnownDomains } from '../plugins/domains/redis/known'
import { DomainLookUp } from '../plugins/domains/redis/look-up'
import { until } from './support/patience'
import { RedisServer, startCluster } from './support/redis'
import { HOP, nameOf, world } from './support/redis-domains'

describe('questions to Redis', () => {
  let server: RedisServer
  let redis: SharedRedis
  before(async () => {
    server = await RedisServer.start()
    const client = openRedis(server.settings)
    await whenReady(client, 10_000)
    // The wait for an answer is as long as the machine may be busy.
    redis = { client, keys: makeKeys('relay-guard:'), timeout: 5000 }
  })
  after(async () => {
    await closeRedis(redis.client)
    await server.stop()
  })

  const asker = (shared: SharedRedis | undefined = redis) => {
    const all = world()
    const look = new DomainLookUp({
      known: all.known,
      redis: () => shared,
      log: (line) => void all.log.push(line),
      now: all.now,
    })
    const ask = async (host: string) => {
      await look.lookUp(all.config.domains.namesInRedis(host))
      return nameOf(all.config, host)
    }
    return { ...all, look, ask }
  }
  const commands = async () =>
    Number(/cmdstat_hgetall:calls=(\d+)/.exec(`${await server.run('INFO', 'commandstats')}`)?.[1] ?? 0)

  it('find what is there, what is above, and that nothing is there; one command for each name in four seconds', async () => {
    await server.run('HSET', 'relay-guard:domain:one.example', 'next_hop', 'smtp://10.0.0.5')
    await server.run(
      'HSET',
      'relay-guard:domain:two.example',
      'next_hop',
      'smtp://10.0.0.5',
      'subdomains',
      'true',
    )
    await server.run('HSET', 'other:domain:three.example', 'next_hop', 'smtp://10.0.0.5')
    await server.run('SET', 'relay-guard:domain:four.example', 'x')
    const before = await commands()
    const { ask, look, config, time, log } = asker()
    assert.deepEqual(
      await Promise.all(['one', 'a.b.two', 'three', 'a.one'].map((name) => ask(`${name}.example`))),
      ['Redis domain:one.example', 'Redis domain:two.example', 'not ours', 'not ours'],
    )
    // one, two, three, a.one, a.b.two, b.two and example.
    assert.equal(await commands(), before + 7)
    assert.equal(look.lookUp(config.domains.namesInRedis('one.example')), undefined, 'nothing to wait for')
    assert.equal(await ask('four.example'), 'cannot tell')
    assert.equal(log.length, 1)
    await server.run('HSET', 'relay-guard:domain:three.example', 'next_hop', 'smtp://10.0.0.5')
    await server.run('DEL', 'relay-guard:domain:one.example')
    time.now += 4000
    assert.deepEqual(
      [await ask('three.example'), await ask('one.example')],
      ['Redis domain:three.example', 'not ours'],
    )
  })

  it('ask once for a name that many ask for at once', async () => {
    const { ask } = asker()
    const before = await commands()
    await Promise.all(Array.from({ length: 200 }, () => ask('many.example')))
    assert.equal(await commands(), before + 2)
  })

  it('hold for hostile names', async () => {
    const { ask, config } = asker()
    const deep = `${'a.'.repeat(126)}b`
    const before = await commands()
    assert.equal(await ask(deep), 'not ours')
    assert.equal(await commands(), before + 11)
    for (const name of [
      'x}.example',
      '*',
      'a*.example',
      'a\r\nDEL x',
      '__proto__',
      `${'a'.repeat(255)}.example`,
    ])
      assert.match(await ask(name), /not ours|cannot tell/)
    assert.equal(await server.run('EXISTS', 'relay-guard:domain:*'), 0)
    assert.deepEqual(config.domains.namesInRedis(''), [])
  })

  it('wait for nothing where Redis is switched off, and say so once', async () => {
    const { look, config, log } = asker()
    const off = new DomainLookUp({
      known: new KnownDomains({ log: () => undefined }),
      redis: () => undefined,
      log: (line) => void log.push(line),
    })
    assert.equal(off.lookUp(['a.example']), undefined)
    assert.equal(off.lookUp(['a.example']), undefined)
    assert.deepEqual(log, [
      'domains in Redis: cannot be looked up (redis.ini: enabled = false); those not known yet get 451',
    ])
    assert.ok(look && config)
  })

  it('wait once a second for a Redis that hangs, serve what is known, and learn what it says when it goes on', async () => {
    const hung = { ...redis, timeout: 50 }
    const { ask, look, config, time, log } = asker(hung)
    await server.run('HSET', 'relay-guard:domain:one.example', 'next_hop', 'smtp://10.0.0.5')
    await until(async () => {
      time.now += 2000
      return (await ask('one.example')) !== 'cannot tell'
    })
    log.length = 0
    time.now += 5000
    server.hang()
    try {
      assert.equal(await ask('one.example'), 'Redis domain:one.example')
      assert.equal(
        look.lookUp(config.domains.namesInRedis('new.example')),
        undefined,
        'nobody waits for a second',
      )
      assert.equal(nameOf(config, 'new.example'), 'cannot tell')
      time.now += 1000
      assert.ok(look.lookUp(config.domains.namesInRedis('new.example')), 'then somebody does')
      assert.equal(log.length, 1)
      assert.match(log[0]!, /^domains in Redis: cannot be looked up \(no answer within 50 ms\)/)
    } finally {
      server.goOn()
    }
    await until(async () => {
      time.now += 1000
      return (await ask('new.example')) !== 'cannot tell'
    })
    assert.equal(nameOf(config, 'new.example'), 'not ours')
    assert.equal(log.at(-1), 'domains in Redis: back')
  })

  it('fail at once where Redis is gone, and go on by themselves when it is back, with what it says then', async () => {
    const { ask, look, config, time, log } = asker()
    await server.run('HSET', 'relay-guard:domain:one.example', 'next_hop', 'smtp://10.0.0.5')
    assert.equal(await ask('one.example'), 'Redis domain:one.example')
    await server.kill()
    time.now += 60_000
    await until(async () => {
      await ask('one.example')
      return redis.client.status !== 'ready'
    })
    time.now += 60_000
    assert.equal(look.lookUp(config.domains.namesInRedis('one.example')), undefined)
    assert.equal(nameOf(config, 'one.example'), 'Redis domain:one.example')
    assert.equal(nameOf(config, 'new.example'), 'cannot tell')
    assert.equal(log.length, 1)
    await server.up()
    await whenReady(redis.client, 20_000)
    time.now += 60_000
    assert.equal(await ask('one.example'), 'not ours')
    assert.equal(log.at(-1), 'domains in Redis: back')
  })
})

describe('questions to a Redis that is not there at the start', () => {
  it('wait for it once, then for nothing until it has come', async () => {
    const server = await RedisServer.start()
    await server.kill()
    const client = openRedis(server.settings)
    const { known, config, time, log, now } = world()
    const redis = { client, keys: makeKeys('relay-guard:'), timeout: 50 }
    const look = new DomainLookUp({ known, redis: () => redis, log: (line) => void log.push(line), now })
    const names = config.domains.namesInRedis('a.example')
    try {
      await look.lookUp(names)
      assert.equal(nameOf(config, 'a.example'), 'cannot tell')
      time.now += 60_000
      assert.equal(look.lookUp(names), undefined, 'nobody waits for a Redis that is known to be away')
      assert.equal(log.length, 1)
      await server.up()
      await whenReady(client, 20_000)
      await until(async () => {
        time.now += 2000
        await look.lookUp(names)
        return nameOf(config, 'a.example') === 'not ours'
      })
      assert.equal(log.at(-1), 'domains in Redis: back')
    } finally {
      await closeRedis(client)
      await server.stop()
    }
  })
})

describe('questions to a Redis Cluster', () => {
  it('find names on every node', async () => {
    const { nodes, settings } = await startCluster()
    const client = openRedis(settings)
    try {
      await whenReady(client, 20_000)
      const all = world()
      const keys = makeKeys('relay-guard:')
      const look = new DomainLookUp({
        known: all.known,
        redis: () => ({ client, keys, timeout: 5000 }),
        log: (line) => void all.log.push(line),
        now: all.now,
      })
      const names = Array.from({ length: 50 }, (_, i) => `d${i}.example`)
      for (const name of names) await client.hset(keys.domain(name), HOP)
      await look.lookUp([...names, 'x.example', 'example'])
      assert.deepEqual(
        names.map((name) => nameOf(all.config, name)),
        names.map((name) => `Redis domain:${name}`),
      )
      assert.equal(nameOf(all.config, 'x.example'), 'not ours')
    } finally {
      await closeRedis(client)
      for (const node of nodes) await node.stop()
    }
  })
})
