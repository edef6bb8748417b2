import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { leased, untilListening } from './support/leased'
import { fire, makeLimiter, untilMemory, untilRedis, type Watched } from './support/limiter'
import { charge, lease } from './support/limiter-contract'
import { until } from './support/patience'
import { startSentinels, type Trio } from './support/redis'

let trio: Trio
let watched: Watched

before(async () => {
  trio = await startSentinels()
  watched = makeLimiter(trio.settings)
  await untilRedis(watched)
})
after(async () => {
  await watched.limiter.close()
  for (const server of [...trio.sentinels, trio.replica, trio.master]) await server.stop()
})

/** Waits until the replica has all that the master was told. */
async function untilReplicated({ master }: Trio): Promise<void> {
  const client = master.client()
  // WAIT is about what was written on this connection, and all that came before.
  await client.set('last', 1)
  await until(async () => (await client.wait(1, 1000)) === 1)
  client.disconnect()
}

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
  await untilReplicated(trio)
  for (const sentinel of trio.sentinels)
    await sentinel.run('SENTINEL', 'SET', 'mymaster', 'down-after-milliseconds', 500)
  await trio.master.kill()
  await untilMemory(watched)
  assert.ok((await fire(watched, 30, charge('10/2h'))).allowed <= 10)
  const meanwhile = await spendLeased()
  const role = async () => [await trio.replica.run('ROLE')].flat()[0]
  await until(async () => (await role()) === 'master', 'the failover of the sentinels')
  await untilRedis(watched)
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
