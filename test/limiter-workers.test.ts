import assert from 'node:assert/strict'
import type { Worker } from 'node:cluster'
import { once } from 'node:events'
import { after, before, test } from 'node:test'
import { type CheckResult, MemoryStore, serveMemory } from '../core/limiter'
import { until } from './support/patience'
import { noRedis, RedisServer } from './support/redis'
import { forkProcesses, forkWorkers, tell } from './support/workers'

interface Fired {
  allowed: number
}

let workers: Worker[]
let stop = () => {}

before(async () => {
  stop = serveMemory(new MemoryStore())
  // A master that is only late is no failure.
  workers = await forkWorkers(3, noRedis)
})
after(() => {
  for (const worker of workers) worker.kill('SIGKILL')
  stop()
})

const fireAll = async (limit: string) => {
  const fired = await Promise.all(
    workers.map((worker) => tell<Fired>(worker, { test: 'fire', tries: 100, limit })),
  )
  return fired.map(({ allowed }) => allowed)
}
const open = (worker: Worker, id: string) => tell<CheckResult>(worker, { test: 'open', id })

test('without Redis the workers of one host count together, in the master', async () => {
  const allowed = await fireAll('100/1h')
  assert.equal(
    allowed.reduce((a, b) => a + b),
    100,
    `${allowed}`,
  )
})

test('the master gives back the leases of a worker that is killed', async () => {
  const [first, second, third] = workers as [Worker, Worker, Worker]
  assert.equal((await open(first, 'a')).allowed, true)
  assert.equal((await open(third, 'b')).allowed, true)
  assert.equal((await open(second, 'c')).allowed, false)
  third.kill('SIGKILL')
  await once(third, 'exit')
  workers = [first, second]
  await until(async () => (await open(second, 'c')).allowed)
})

test('a worker whose master does not answer counts by itself, and with the master again later', async () => {
  const [worker = assert.fail()] = await forkWorkers(1, { ...noRedis, timeout: 1000 })
  workers.push(worker)
  stop()
  const fired = await tell<Fired>(worker, { test: 'fire', tries: 50, limit: '20/2h' })
  assert.equal(fired.allowed, 20)
  const again = await tell<Fired>(worker, { test: 'fire', tries: 50, limit: '20/2h' })
  assert.equal(again.allowed, 0)
  stop = serveMemory(new MemoryStore())
  const lines = async () => (await tell<{ lines: string[] }>(worker, { test: 'dry-run' })).lines
  await until(async () => (await lines()).includes('master: back'))
  const down = 'master: down (no answer within 1000 ms)'
  assert.deepEqual(await lines(), [down, 'master: back'])
})

test('eight processes on one Redis let exactly the limit through', async () => {
  const server = await RedisServer.start()
  // Eight processes on few cores may be slow: here only counting matters.
  const children = await forkProcesses(8, server.settings)
  const order = { test: 'fire', tries: 100, limit: '137/1h, 500/1d' }
  const fired = await Promise.all(children.map((child) => tell<Fired>(child, order)))
  for (const child of children) child.kill('SIGKILL')
  await server.stop()
  const allowed = fired.reduce((sum, one) => sum + one.allowed, 0)
  assert.equal(allowed, 137)
})
