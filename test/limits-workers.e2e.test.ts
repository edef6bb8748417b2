// Limits in a Haraka with several workers, without Redis, with one, and with a cluster.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Haraka } from './support/haraka'
import {
  codes,
  each,
  only,
  sessionFrom,
  startLimits,
  tryConnect,
  tryMail,
  tryRcpt,
  untilRedisCounts,
} from './support/limits'
import { until } from './support/patience'
import { RedisServer, startCluster } from './support/redis'
import { SmtpClient } from './support/smtp-client'

const limits = [
  '[messages per ip]\nlimit = 20/1h\n',
  only('concurrent connections per network', '127.98.0.0/24 = 4', '127.98.1.0/24 = 1'),
  '[recipients per sender]\nlimit = 20/1h\n',
  '[recipients per recipient]\nlimit = 10/1h\n',
].join('')

/** How many messages of forty that are begun side by side get through. */
async function passedOfForty(haraka: Haraka, from: string): Promise<number> {
  const replies = await Promise.all(Array.from({ length: 40 }, () => tryMail(haraka, from)))
  return codes(replies).filter((code) => code === 250).length
}

/** Kills a worker, and waits until another one takes its place. */
async function killWorker(haraka: Haraka): Promise<number> {
  const [pid = 0, other] = haraka.workers()
  process.kill(pid, 'SIGKILL')
  const others = () => haraka.workers().filter((each) => each !== pid && each !== other)
  await until(() => others().length === 1, 'another worker')
  await until(() => (haraka.output().match(/worker \d+ listening on/g)?.length ?? 0) >= 3, 'listening')
  return pid
}

describe('two workers without Redis', () => {
  let haraka: Haraka
  before(async () => {
    haraka = await startLimits({ limits, nodes: 2 })
  })
  after(() => haraka?.stop())

  test('let exactly as many messages through as the limit says', async () => {
    assert.equal(await passedOfForty(haraka, '127.97.0.1'), 20)
  })

  test('know of each other’s connections, and a killed one gives its slots back at once', async () => {
    const open: SmtpClient[] = []
    for (const number of [1, 2, 3, 4]) open.push(await sessionFrom(haraka, `127.98.0.${number}`))
    assert.deepEqual(codes(await each(4, () => tryConnect(haraka, '127.98.0.5'))), [421, 421, 421, 421])
    await killWorker(haraka)
    await until(() => open.some(({ closed }) => closed))
    const left = open.filter(({ closed }) => !closed).length
    assert.ok(left < 4)
    const again: SmtpClient[] = []
    for (let number = left; number < 4; number++) {
      // The other worker refuses from memory for a second after it has seen that no slot was free.
      await until(async () => {
        const client = await SmtpClient.connect({ port: haraka.port, from: `127.98.0.${10 + number}` })
        if (client.greeting.code === 220) again.push(client)
        return client.greeting.code === 220
      })
    }
    assert.equal((await tryConnect(haraka, '127.98.0.9')).code, 421)
    for (const client of [...open, ...again]) client.destroy()
  })

  test('count on when one of them is new', async () => {
    const replies = await each(6, () => tryMail(haraka, '127.97.0.1'))
    assert.deepEqual([...new Set(codes(replies))], [450])
    assert.deepEqual(haraka.failures(), [])
  })
})

describe('two workers with Redis', () => {
  let redis: RedisServer
  let haraka: Haraka
  before(async () => {
    redis = await RedisServer.start()
    haraka = await startLimits({ limits, redis, nodes: 2 })
    await untilRedisCounts(haraka, redis)
  })
  after(async () => {
    await haraka?.stop()
    await redis?.stop()
  })

  test('let exactly as many messages through as the limit says', async () => {
    assert.equal(await passedOfForty(haraka, '127.97.0.1'), 20)
    assert.equal(await redis.run('HGET', 'relay-guard:rate:{ip:127.97.0.1}:messages', '1h.used'), '20')
  })

  test('a killed one leaves leases that end within a minute', async () => {
    const open = await Promise.all([1, 2, 3, 4].map((number) => sessionFrom(haraka, `127.98.0.${number}`)))
    const pid = await killWorker(haraka)
    const key = 'relay-guard:concurrent:{network:127.98.0.0%2F24}'
    const leases = [await redis.run('ZRANGE', key, 0, -1, 'WITHSCORES')].flat(2).map(String)
    const dead = leases.filter((_, index) => leases[index - 1]?.includes(`/${pid}/`))
    assert.ok(dead.length > 0, leases.join())
    const clock = [await redis.run('TIME')].flat().map(Number)
    for (const end of dead) assert.ok(Number(end) <= clock[0]! * 1000 + clock[1]! / 1000 + 60_000, end)
    for (const client of open) client.destroy()
  })

  test('one may be killed while Redis is away, and what they count together still holds', async () => {
    const lines = (pattern: RegExp) => haraka.output().match(pattern)?.length ?? 0
    await redis.kill()
    await until(() => lines(/redis: down/g) === 2, 'each worker sees it')
    const [pid] = haraka.workers()
    process.kill(pid!, 'SIGKILL')
    await until(() => lines(/worker \d+ listening on/g) >= 4, 'listening')
    const passed = await passedOfForty(haraka, '127.97.1.1')
    // A master that answers too late on a busy machine is one more change-over: at most twice the limit.
    assert.ok(passed === 20 || (passed < 40 && /master: down/.test(haraka.output())), `${passed}`)
    await redis.up()
    // The one that was killed does not come back, the new one may not have noticed that Redis was away.
    await until(() => lines(/redis: back/g) >= 1, 'the way back')
    assert.deepEqual(haraka.failures(), [])
  })
})

describe('a Redis Cluster', () => {
  let cluster: Awaited<ReturnType<typeof startCluster>>
  let haraka: Haraka
  before(async () => {
    cluster = await startCluster()
    const nodes = cluster.settings.cluster.map(({ host, port }) => `${host}:${port}`).join(', ')
    haraka = await startLimits({
      limits,
      files: { 'relay-guard/redis.ini': `[redis]\ncluster = ${nodes}\ntimeout = 5s\n` },
    })
  })
  after(async () => {
    await haraka?.stop()
    await Promise.all(cluster?.nodes.map((node) => node.stop()) ?? [])
  })

  test('counts for all whom one command touches, and gives back where one of them refuses', async () => {
    // Until the nodes are known, memory counts.
    const used = async () => {
      await tryMail(haraka, '127.97.0.2')
      const counts = await Promise.all(cluster.nodes.map((node) => node.run('DBSIZE')))
      return counts.some((count) => Number(count) > 0)
    }
    await until(used)
    assert.equal(await passedOfForty(haraka, '127.97.0.1'), 20)
    const to = (index: number) => (index < 12 ? 'full@rcpt.test' : `r${index}@rcpt.test`)
    const replies = await each(23, (index) =>
      tryRcpt(haraka, `127.97.${10 + index}.1`, to(index), 'a@x.pass.test'),
    )
    // Ten for the recipient; the two over it cost the sender nothing, so ten more go to others.
    assert.deepEqual(codes(replies), [
      ...Array<number>(10).fill(250),
      450,
      450,
      ...Array<number>(10).fill(250),
      450,
    ])
    const open = await sessionFrom(haraka, '127.98.1.1')
    assert.equal((await tryConnect(haraka, '127.98.1.2')).code, 421)
    await open.quit()
    await until(async () => (await tryConnect(haraka, '127.98.1.2')).code === 220)
    const keys = await Promise.all(cluster.nodes.map((node) => node.run('DBSIZE')))
    assert.ok(
      keys.every((count) => Number(count) > 0),
      keys.join(),
    )
    // At the start it may be down: connecting takes longer than a second on a busy machine.
    assert.doesNotMatch(haraka.output(), /redis: down \((?!not connected)|counter failed/)
    assert.deepEqual(haraka.failures(), [])
  })
})
