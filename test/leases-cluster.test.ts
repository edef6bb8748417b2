// Leases on a Redis Cluster, where each subject lies on a node of its own: all or nothing, and the books add up.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { closeRedis, openRedis } from '../core/redis/connection'
import type { RedisSettings } from '../core/redis/endpoint'
import { leased, untilListening } from './support/leased'
import { makeLimiter, untilRedis } from './support/limiter'
import { until } from './support/patience'
import { pick, randomFrom, seed } from './support/random'
import { type RedisServer, startCluster } from './support/redis'

let nodes: RedisServer[]
let settings: RedisSettings

before(async () => {
  ;({ nodes, settings } = await startCluster())
})
after(async () => {
  await Promise.all(nodes.map((node) => node.stop()))
})

const SUBJECTS = ['a', 'b', 'c', 'd', 'e', 'f']
const LIMITS = ['120/1h', '300/1h', '1000/1h']

test('what is refused on one node is charged on none, and all that is held comes back', async () => {
  const random = randomFrom(seed)
  const all = [1, 2, 3].map((i) => makeLimiter(settings, `host/${i}`))
  const redis = openRedis(settings)
  try {
    await Promise.all(all.map((each) => untilRedis(each)))
    await untilListening(...all)
    const through = new Map<string, number>()
    let refused = 0
    for (let round = 0; round < 120; round++) {
      const asks = Array.from({ length: 6 }, async () => {
        const charges = SUBJECTS.map((subject, i) => leased(LIMITS[i % 3]!, { subject }))
          .filter(() => random() < 0.5)
          .map((each) => ({ ...each, cost: pick([1, 1, 2, 5], random) }))
        if (!charges.length) return
        const { limiter } = pick(all, random)
        const next = () => [{ ...leased('1000/1h', { subject: 'c' }), cost: 3 }]
        const result = await limiter.check(charges, [], random() < 0.3 ? next : undefined)
        if (!result.allowed) refused++
        else if (random() < 0.2) await limiter.refund(result)
        else for (const { subject, cost } of charges) through.set(subject, (through.get(subject) ?? 0) + cost)
      })
      await Promise.all(asks)
      for (const { limiter } of all) limiter.forgetRefusals()
    }
    assert.ok(refused > 0)
    const standing = async () => {
      const found = new Map<string, [number, number]>()
      for (const subject of SUBJECTS) {
        const key = `${settings.prefix}rate:{ip:${subject}}:messages`
        found.set(subject, [
          Number(await redis.hget(key, '1h.used')),
          Number(await redis.hget(key, '1h.leased')),
        ])
      }
      return found
    }
    await until(async () => [...(await standing()).values()].every(([, ahead]) => ahead === 0))
    const expected = SUBJECTS.map((subject, i) => {
      const used = through.get(subject) ?? 0
      assert.ok(used <= Number.parseInt(LIMITS[i % 3]!, 10), `${subject}: ${used}`)
      return [subject, [used, 0]]
    })
    assert.deepEqual([...(await standing())], expected)
  } finally {
    await Promise.all(all.map(({ limiter }) => limiter.close()))
    await closeRedis(redis)
  }
})
