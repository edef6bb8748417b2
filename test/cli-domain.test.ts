// relay-guard domain: what it writes is what the server takes, and what it shows holds no password.
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { readArguments } from '../cli/arguments'
import { write } from '../cli/domain/section'
import { VERBS } from '../cli/verbs'
import { HarakaDir, relayGuard } from './support/command'
import { freePort } from './support/ports'
import { RedisServer, startCluster, startSentinels } from './support/redis'
import { startSink } from './support/sink'

let haraka: HarakaDir
let redis: RedisServer
const redisIni = (rest: string) => haraka.ini('redis.ini', `[redis]\ntimeout = 2s\n${rest}\n`)

before(async () => {
  haraka = await HarakaDir.make()
  redis = await RedisServer.start()
  haraka.plugins('relay-guard/domains')
  haraka.put('smtp.ini', 'listen=127.0.0.1:2525\n')
  haraka.ini(
    'domains.ini',
    '[main]\nredis = true\npostmaster = a@file.example\n[file.example]\nnext_hop = smtp://10.0.0.5\n',
  )
  redisIni(`port = ${redis.port}`)
})
after(async () => {
  haraka.remove()
  await redis.stop()
})

/** Runs the verb in this process: to start one for each takes long on a busy machine. */
async function ended(argv: string[]) {
  const out: string[] = []
  try {
    const request = readArguments(['-c', haraka.dir, ...argv], VERBS)
    const status = await VERBS[request.verb]!.run({ ...request, print: (line) => void out.push(`${line}\n`) })
    return { status, out: out.join(''), err: '' }
  } catch (error) {
    return { status: 2, out: out.join(''), err: (error as Error).message }
  }
}
const run = (...words: string[]) => ended(['domain', ...words])
const json = async (...words: string[]) => {
  const { status, out } = await ended(['--json', 'domain', ...words])
  const answers = out
    .trim()
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line))
  return { status, answers }
}
const stored = (name: string) => redis.run('HGETALL', `relay-guard:domain:${name}`) as Promise<string[]>

describe('relay-guard domain', () => {
  it('writes, changes, shows and removes a domain', async () => {
    const set = await run(
      'set',
      'Bücher.example',
      'next_hop=smtp://10.0.0.5, smtp://10.0.0.6',
      'subdomains=true',
    )
    assert.deepEqual([set.status, set.err], [0, ''])
    assert.equal(
      set.out,
      '[xn--bcher-kva.example]\nnext_hop = smtp://10.0.0.5, smtp://10.0.0.6\nsubdomains = true\nIn force within 5 s.\n',
    )
    assert.equal(
      (await run('set', 'bücher.example', 'subdomains=', 'recipients[]=a@bücher.example,b@bücher.example'))
        .status,
      0,
    )
    const shown = await run('show', 'bücher.example')
    assert.equal(
      shown.out,
      '[xn--bcher-kva.example]\nnext_hop = smtp://10.0.0.5, smtp://10.0.0.6\nrecipients = a@bücher.example,b@bücher.example\n',
    )
    assert.deepEqual(await stored('xn--bcher-kva.example'), [
      'next_hop',
      'smtp://10.0.0.5, smtp://10.0.0.6',
      'recipients',
      'a@bücher.example,b@bücher.example',
    ])
    assert.deepEqual(
      [(await run('remove', 'bücher.example')).status, await stored('xn--bcher-kva.example')],
      [0, []],
    )
    const { status, out } = await relayGuard(['-c', haraka.dir, 'domain', 'list'])
    assert.deepEqual([status, out], [0, ''])
    for (const action of ['show', 'remove']) {
      const { status, out } = await run(action, 'bücher.example')
      assert.deepEqual([status, out], [1, 'error: xn--bcher-kva.example is not in Redis\n'])
    }
  })

  const bad: [string[], RegExp][] = [
    [['tls=may'], /next_hop: is missing/],
    [['next_hop=smtp://127.0.0.1:2525'], /is a listener of this server itself/],
    [['next_hop=smtp://10.0.0.5', 'tls=secret'], /tls: is not one of none, may, encrypt, verify/],
    [
      ['next_hop=smtp://10.0.0.5', 'nexthop=x'],
      /nexthop: is not a key of this section; did you mean next_hop\?/,
    ],
    [['next_hop=smtp:/me:secret@h'], /next_hop: not a next hop/],
    [
      ['next_hop=smtp://10.0.0.5', 'recipients=a@other.example'],
      /recipients: number 1 is not in this domain/,
    ],
    [['next_hop=smtp://10.0.0.5\r\nx'], /holds a control character/],
  ]
  for (const [fields, error] of bad)
    it(`writes nothing that is bad, and shows no value: ${error.source}`, async () => {
      const { status, out, err } = await run('set', 'bad.example', ...fields)
      assert.equal(status, 1, err)
      assert.match(out, error)
      assert.doesNotMatch(out + err, /secret/)
      assert.deepEqual(await stored('bad.example'), [])
    })

  const words: [string[], RegExp][] = [
    [[], /domain needs a set\|show\|remove\|list/],
    [['lst'], /domain takes set, show, remove or list; did you mean list\?/],
    [['set', 'a.example'], /needs a KEY=VALUE/],
    [['set', 'a.example', 'x:secret'], /word 3 after domain is no KEY=VALUE/],
    [['set', 'a.example', 'tls=may', 'tls=none'], /tls is given twice/],
    [['set', 'a.example', 'next_hop=smtp://me:***@h'], /stands for a password/],
    [['show'], /needs a NAME/],
    [['show', 'not a name'], /is not a domain name/],
    [['remove', 'a.example', 'b.example'], /takes one NAME/],
    [['list', 'a.example'], /takes no more words/],
  ]
  for (const [given, error] of words)
    it(`could not run: ${given.join(' ')}`, async () => {
      const { status, out, err } = await run(...given)
      assert.deepEqual([status, out], [2, ''])
      assert.match(err, error)
      assert.doesNotMatch(err, /secret/)
    })

  it('masks passwords, keeps them when other keys are set, and lists what is bad', async () => {
    await run('set', 'login.example', 'next_hop=smtp://me:s%2Cecret@10.0.0.5:587,smtp://10.0.0.6')
    const { status, answers } = await json('set', 'login.example', 'connections=5')
    assert.deepEqual(
      [status, answers],
      [
        0,
        [
          {
            name: 'login.example',
            keys: { next_hop: 'smtp://me:***@10.0.0.5:587,smtp://10.0.0.6', connections: '5' },
          },
        ],
      ],
    )
    assert.equal((await stored('login.example'))[1], 'smtp://me:s%2Cecret@10.0.0.5:587,smtp://10.0.0.6')
    assert.equal(
      (await run('set', 'file.example', 'next_hop=smtp://10.0.0.5')).out.split('\n').at(-2),
      'warning: not in force: domains.ini has [file.example] itself, which goes before Redis',
    )
    assert.deepEqual((await run('list')).out.trim().split('\n').sort(), [
      'file.example forward smtp://10.0.0.5',
      'login.example forward smtp://me:***@10.0.0.5:587,smtp://10.0.0.6',
    ])
    await redis.run('SET', 'relay-guard:domain:string.example', 'secret')
    await redis.run('HSET', 'relay-guard:domain:Upper.example', 'next_hop', 'smtp://10.0.0.5')
    await redis.run('HSET', 'relay-guard:domain:bad.example', 'next_hop', 'smtp:/me:secret@h')
    await redis.run('HSET', 'other:domain:elsewhere.example', 'next_hop', 'smtp://10.0.0.5')
    const list = await run('list')
    assert.equal(list.status, 1)
    assert.doesNotMatch(list.out, /secret|elsewhere/)
    assert.match(list.out, /error: Redis \[domain:string\.example\]: is no hash/)
    assert.match(
      list.out,
      /error: Redis \[domain:Upper\.example\]: is never looked up; write domain:upper\.example/,
    )
    assert.match(list.out, /error: Redis \[domain:bad\.example\] next_hop: not a next hop/)
    assert.match(
      (await run('set', 'string.example', 'next_hop=smtp://10.0.0.5')).out,
      /is no hash in Redis; remove it first/,
    )
    assert.equal((await json('show', 'bad.example')).status, 1)
    for (const name of ['string.example', 'bad.example']) assert.equal((await run('remove', name)).status, 0)
    await redis.run('DEL', 'relay-guard:domain:Upper.example')
  })

  it('is checked with the files, and its next hops are asked, of twenty domains', async () => {
    const hop = await startSink()
    const hop2 = await freePort()
    haraka.ini('domains.ini', `[main]\nredis = true\npostmaster = a@d1.example\n`)
    await redis.run('FLUSHALL')
    const check = async () => {
      const { out } = await ended(['--json', 'check'])
      return JSON.parse(out) as {
        good: boolean
        mistakes: string[]
        warnings: string[]
        nextHops: { domain: string }[]
      }
    }
    assert.ok((await check()).warnings.includes('domains.ini [main] redis: Redis holds no domain'))
    for (let i = 0; i < 30; i++)
      await redis.run('HSET', `relay-guard:domain:d${i}.example`, 'next_hop', hop.address(), 'tls', 'none')
    const good = await check()
    assert.deepEqual([good.good, good.nextHops.length, good.mistakes], [true, 20, []])
    for (let i = 0; i < 30; i++) await redis.run('HSET', `relay-guard:domain:d${i}.example`, 'tls', 'x')
    const bad = await check()
    assert.deepEqual([bad.good, bad.mistakes.length], [false, 21])
    assert.equal(bad.mistakes.at(-1), 'Redis: 10 more domains are bad; relay-guard domain list shows all')
    await redis.run('FLUSHALL')
    await redis.run('HSET', 'relay-guard:domain:d.example', 'next_hop', `smtp://127.0.0.1:${hop2}`)
    assert.equal((await check()).good, false, 'the next hop is dead')
    await hop.close()
  })

  it('writes nothing over what somebody else has written meanwhile, and all of its own or none', async () => {
    const client = redis.client()
    const key = 'relay-guard:domain:both.example'
    await client.watch(key)
    await redis.run('HSET', key, 'next_hop', 'smtp://10.0.0.9')
    await assert.rejects(
      write(client, key, {}, { next_hop: 'smtp://10.0.0.5' }),
      /nothing was written, try again/,
    )
    assert.deepEqual(await stored('both.example'), ['next_hop', 'smtp://10.0.0.9'])
    await client.watch(key)
    await write(client, key, { next_hop: 'smtp://10.0.0.9' }, { delivery: 'plugin' })
    assert.deepEqual(await stored('both.example'), ['delivery', 'plugin'])
    client.disconnect()
    assert.equal((await run('remove', 'both.example')).status, 0)
  })

  it('could not run without Redis', async () => {
    redisIni(`port = ${await freePort()}`)
    const { status, err } = await run('list')
    assert.equal(status, 2)
    assert.match(err, /^Redis: .*ECONNREFUSED/)
    redisIni('enabled = false')
    haraka.ini('domains.ini', '[main]\n')
    assert.match((await run('list')).err, /enabled = false, so there are no domains in Redis/)
  })

  it('works on a Cluster, every node of it, and under Sentinel', async () => {
    const { nodes } = await startCluster()
    redisIni(`cluster = ${nodes.map(({ port }) => `127.0.0.1:${port}`).join(', ')}`)
    for (const name of ['a', 'b', 'c', 'd', 'e', 'f'])
      assert.match(
        (await run('set', `${name}.example`, 'next_hop=smtp://10.0.0.5')).out,
        /warning: not in force: domains.ini has redis = false/,
      )
    assert.deepEqual(
      (await json('list')).answers.map(({ name }) => name).sort(),
      ['a', 'b', 'c', 'd', 'e', 'f'].map((name) => `${name}.example`),
    )
    assert.equal((await run('remove', 'c.example')).status, 0)
    assert.equal((await json('list')).answers.length, 5)
    for (const node of nodes) await node.stop()

    const { master, replica, sentinels } = await startSentinels()
    redisIni(`sentinel = ${sentinels.map(({ port }) => `127.0.0.1:${port}`).join(', ')}`)
    assert.equal((await run('set', 'a.example', 'next_hop=smtp://10.0.0.5')).status, 0)
    assert.equal((await json('list')).answers.length, 1)
    for (const server of [master, replica, ...sentinels]) await server.stop()
  })
})
