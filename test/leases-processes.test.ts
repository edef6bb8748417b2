// Real processes that hold something in advance over one real Redis, some of them killed: never more than the limit.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, before, test } from 'node:test'
import { parseRate } from '../core/limiter/rate'
import { seed } from './support/random'
import { RedisServer } from './support/redis'
import { most } from './support/spends'
import { forkProcesses, tell } from './support/workers'

let server: RedisServer

before(async () => {
  server = await RedisServer.start()
})
after(() => server.stop())

interface Spent {
  through: number[]
  listens: boolean
}

/** What got through in all, as times by the clock that Redis has, too. */
async function spendAll(count: number, order: Record<string, unknown>, kills: number): Promise<number[]> {
  const children = await forkProcesses(count, { ...server.settings, prefix: `${count}:` })
  try {
    const spent = children.map((child, i) => tell<Spent>(child, { test: 'spend', seed: seed + i, ...order }))
    // What these have spent is in no log, and what they held is gone.
    for (const end of spent.slice(0, kills)) end.catch(() => undefined)
    for (const child of children.slice(0, kills)) {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    const logs = await Promise.all(spent.slice(kills))
    assert.ok(logs.some(({ listens }) => listens))
    return logs.flatMap(({ through }) => through)
  } finally {
    for (const child of children) child.kill('SIGKILL')
  }
}

for (const [count, limit, lasts, tries, kills] of [
  [8, '300/1s', 2500, 20, 2],
  [32, '1000/1s, 2500/1h', 2000, 12, 0],
] as const) {
  test(`${count} processes, ${kills} of them killed, never let more than ${limit} through in any stretch`, async () => {
    const through = await spendAll(count, { limit, lasts, tries }, kills)
    const log = through.map((at) => ({ at, steady: at, cost: 1 }))
    for (const { ms, limit: allowed } of parseRate(limit).windows) {
      const found = most(log, ms)
      assert.ok(found <= allowed, `${found} of ${allowed} in ${ms} ms`)
    }
    assert.ok(log.length > 100)
    await server.run('FLUSHALL')
  })
}
