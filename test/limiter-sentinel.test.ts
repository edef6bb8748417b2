import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { leased, untilListening } from './support/leased'
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

/** How many of 1000 get through, one after the other, of which the worker may take some in advance. */
async function spendLeased(): Promise<number> {
  const asked = leased('500/1h', { subject: 'ahead' })
  let through = 0
  for (let i = 0; i < 1000; i++) if ((await watched.limiter.check([asked])).allowed) through++
  return through
}

test('when the master dies, the limits go on in memory and then on the new master', async () => {
  const open = (id: string) => watched.limiter.check([], [lease('', 2, { id })])
  await untilListening(watched)
  assert.equal(await spendLeased(), 500)
  assert.equal((await fire(watched, 30)).allowed, 10)
  assert.equal((await open('a')).allowed, true)
  await trio.replica.run('PING')
  await until(async () => Number(await trio.replica.run('DBSIZE')) > 1)
  await trio.master.kill()
  await untilMemory(watched)
  assert.ok((await fire(watched, 30, charge('10/2h'))).allowed <= 10)
  const meanwhile = await spendLeased()
  const role = async () => [await trio.replica.run('ROLE')].flat()[0]
  await until(async () => (await role()) === 'master', 20_000, 'the failover of the sentinels')
  await untilRedis(watched, 5000)
  // The new master is listened to, too.
  await untilListening(watched)
  assert.ok(meanwhile + (await spendLeased()) <= 500)
  assert.equal((await fire(watched, 30)).allowed, 0, 'the new master knows what was counted')
  await until(
    async () => Number(await trio.replica.run('ZCARD', 'relay-guard:concurrent:{ip:203.0.113.9}')) === 1,
  )
  assert.match(watched.lines[0] ?? '', /^redis: down/)
  assert.equal(watched.lines.at(-1), 'redis: back')
})
