// Slots of closed connections that are kept for a moment: never more than the limit is open, and nobody is refused for them.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Redis } from 'ioredis'
import { Leases } from '../core/limiter/leases'
import { MemoryStore } from '../core/limiter/memory-store'
import { Returns } from '../core/limiter/returns'
import { Workers } from './support/leased'
import { lease } from './support/limiter-contract'
import { until } from './support/patience'
import { pick, randomFrom, seed } from './support/random'
import { waitForRecalls } from './support/recalls'
import { RedisServer } from './support/redis'

const LIMIT = 10
let server: RedisServer
let redis: Redis
const workers = new Workers(() => server)

before(async () => {
  server = await RedisServer.start()
  redis = server.client()
  await redis.ping()
  waitForRecalls(redis)
})
after(async () => {
  await workers.close()
  redis.disconnect()
  await server.stop()
})

const slots = (prefix: string) => redis.zcard(`${prefix}concurrent:{ip:203.0.113.9}`)
/** The slot of a client, and that of its network: another client of it has its own name. */
const leasesOf = (node: string, id: number, client = 0) => [
  lease('', LIMIT, { id: `${node}/${id}` }),
  lease('', LIMIT, { id: `${node}/${id}`, scope: 'network', subject: `client ${client % 1}` }),
]

test('a slot that is only kept is given to whoever would be refused', async () => {
  const [one, two] = await workers.make(2, 'kept:')
  for (let id = 0; id < 4; id++) {
    assert.equal((await one.limiter.check([], leasesOf('host/0', id))).allowed, true)
  }
  for (let id = 0; id < 4; id++) one.limiter.release(`host/0/${id}`)
  assert.ok((await slots('kept:')) > 0, 'some are kept')
  for (let id = 0; id < LIMIT; id++) {
    const { allowed } = await two.limiter.check([], leasesOf('host/1', id))
    assert.equal(allowed, true, `connection ${id}`)
  }
  assert.equal((await two.limiter.check([], leasesOf('host/1', LIMIT))).allowed, false)
})

test('three workers that open and close at random have the limit open at once, never more', async () => {
  let now = 0
  const random = randomFrom(seed)
  const some = await workers.make(3, 'random:', () => now)
  const open: { worker: number; id: number }[] = []
  let refused = 0
  let most = 0
  for (let id = 0; id < 600; id++) {
    // A refusal is remembered for a second.
    now += 1001
    const wave = Math.floor(id / 100) % 2 ? 0.3 : 0.6
    if (random() > wave && open.length) {
      const at = Math.floor(random() * open.length)
      const [{ worker, id } = assert.fail()] = open.splice(at, 1)
      some[worker]!.limiter.release(`host/${worker}/${id}`)
      continue
    }
    const worker = pick([0, 1, 2], random)
    const { allowed } = await some[worker]!.limiter.check([], leasesOf(`host/${worker}`, id))
    assert.ok(allowed || open.length === LIMIT, `refused with ${open.length} open`)
    if (allowed) open.push({ worker, id })
    else refused++
    most = Math.max(most, open.length)
  }
  assert.deepEqual([most, refused > 0], [LIMIT, true])
})

test('many at once at one worker and another never have more than the limit open', async () => {
  const [one, two] = await workers.make(2, 'crowd:')
  const both = [one, two]
  for (let round = 0; round < 20; round++) {
    const tries = Array.from({ length: 16 }, (_, i) => ({ worker: i % 2, id: 100 * round + i }))
    const answers = await Promise.all(
      tries.map(({ worker, id }) => both[worker]!.limiter.check([], leasesOf(`host/${worker}`, id))),
    )
    const opened = tries.filter((_, i) => answers[i]!.allowed)
    assert.ok(opened.length <= LIMIT, `${opened.length} open in round ${round}`)
    for (const { worker, id } of opened) both[worker]!.limiter.release(`host/${worker}/${id}`)
  }
})

test('a kept slot counts as held while its next connection is asked about', async () => {
  const returns = new Returns(async () => {})
  const leases = new Leases(new MemoryStore(), { returns, mayKeep: () => true })
  const granted = { allowed: true, slots: [{ used: 0 }, { used: 0 }] }
  await leases.take(leasesOf('host/0', 1), async () => granted)
  leases.release('host/0/1')
  let answer = () => {}
  const asked = leases.take(leasesOf('host/0', 2), async () => {
    await new Promise<void>((resolve) => {
      answer = resolve
    })
    return { allowed: true, slots: [] }
  })
  // A store that is changed to at this moment must know of it.
  assert.equal(leases.held.length, 2)
  answer()
  await asked
  assert.equal(leases.held.length, 2)
  await leases.close()
  assert.equal(leases.held.length, 0)
})

test('with another redis.ini slots move along, and those that are only kept end', async () => {
  const [one] = await workers.make(1, 'moved:')
  for (let id = 0; id < 4; id++) await one.limiter.check([], leasesOf('host/0', id))
  for (let id = 0; id < 3; id++) one.limiter.release(`host/0/${id}`)
  one.limiter.use({ ...server.settings, prefix: 'new:' })
  await until(async () => (await slots('moved:')) === 0 && (await slots('new:')) === 1, 'the move')
  one.limiter.release('host/0/3')
  await until(async () => (await slots('new:')) === 0, 'its end')
})
