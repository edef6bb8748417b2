import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { fire, makeLimiter, untilMemory, untilRedis, type Watched } from './support/limiter'
import { charge, lease } from './support/limiter-contract'
import { startSentinels, type Trio, until } from './support/redis'

let trio: Trio
let watched: Watched

before(async () => {
  trio = await startSentinels()
  watched = makeLimiter({ ...trio.settings, timeout: 1000 })
  await untilRedis(watched)
})
after(async () => {
  await watched.limiter.close()
  for (const server of [...trio.sentinels, trio.replica, trio.master]) await server.stop()
})

test('when the master dies, the limits go on in memory and then on the new master', async () => {
  const open = (id: string) => watched.limiter.check([], [lease('', 2, { id })])
  assert.equal((await fire(watched, 30)).allowed, 10)
  assert.equal((await open('a')).allowed, true)
  await trio.replica.run('PING')
  await until(async () => Number(await trio.replica.run('DBSIZE')) > 1)
  await trio.master.kill()
  await untilMemory(watched)
  assert.ok((await fire(watched, 30, charge('10/2h'))).allowed <= 10)
  const role = async () => [await trio.replica.run('ROLE')].flat()[0]
  await until(async () => (await role()) === 'master', 20_000, 'the failover of the sentinels')
  await untilRedis(watched, 5000)
  assert.equal((await fire(watched, 30)).allowed, 0, 'the new master knows what was counted')
  await until(
    async () => Number(await trio.replica.run('ZCARD', 'relay-guard:concurrent:{ip:203.0.113.9}')) === 1,
  )
  assert.match(watched.lines[0] ?? '', /^redis: down/)
  assert.equal(watched.lines.at(-1), 'redis: back')
})
