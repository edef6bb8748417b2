// A worker of a Haraka with several: started by cluster.fork, or as a process of its own with child_process.fork.
// It does what it is told in messages `{ cmd: 'limiter', … }` and answers with `{ result }`.
import { setTimeout as sleep } from 'node:timers/promises'
import { Limiter } from '../../core/limiter'
import { charge, lease } from './limiter-contract'
import { until } from './patience'
import { randomFrom } from './random'
import { noRedis } from './redis'

interface Order {
  test: 'fire' | 'open' | 'dry-run' | 'spend'
  tries?: number
  limit?: string
  id?: string
  lasts?: number
  seed?: number
}

const settings = process.env.REDIS_SETTINGS ? JSON.parse(process.env.REDIS_SETTINGS) : noRedis
const lines: string[] = []
const limiter = new Limiter({ settings, log: (line) => lines.push(line) })

async function obey(order: Order): Promise<unknown> {
  const { test, tries = 1, limit = '10/1h', id = '' } = order
  if (test === 'spend') return spend(order)
  if (test === 'open') return limiter.check([], [lease('', 2, { id: `${limiter.node}/${id}` })])
  if (test === 'dry-run') {
    const { source } = await limiter.dryRun([charge(limit, { subject: 'nobody' })])
    return { source, lines }
  }
  const verdicts = await Promise.all(Array.from({ length: tries }, () => limiter.check([charge(limit)])))
  return { allowed: verdicts.filter(({ allowed }) => allowed).length }
}

/** Spends for so many ms, `tries` at once and then none for a moment, and logs when each got through, by the clock of this host. */
async function spend({ limit = '10/1h', tries = 1, lasts = 0, seed = 1 }: Order): Promise<unknown> {
  const random = randomFrom(seed)
  const asked = charge(limit, { advance: 64 })
  const next = () => [{ ...asked, cost: 3 }]
  const through: number[] = []
  const end = Date.now() + lasts
  while (Date.now() < end) {
    const asks = Array.from({ length: 1 + Math.floor(random() * tries) }, async () => {
      const before = Date.now()
      const { allowed, charged } = await limiter.check([asked], [], random() < 0.3 ? next : undefined)
      // The server has the same clock. What was held was spent when it was asked for, but not before it was granted.
      const [{ at, budget } = { at: 0, budget: undefined }] = charged
      if (allowed) through.push(budget ? Math.max(before, at) : at)
    })
    await Promise.all(asks)
    limiter.forgetRefusals()
    // To the next tenth of a second, or for a moment.
    await sleep(random() < 0.5 ? 100 - (Date.now() % 100) : random() * 40)
  }
  return { through, listens: limiter.remembersFor > 5000 }
}

const isOrder = (message: unknown): message is Order =>
  typeof message === 'object' && message !== null && 'test' in message

process.on('message', async (message: unknown) => {
  if (isOrder(message)) process.send?.({ result: await obey(message) })
})
process.on('disconnect', () => process.exit())

async function ready(): Promise<void> {
  const asked = charge('9/1h', { subject: 'nobody' })
  if (settings.enabled) {
    await until(async () => (await limiter.dryRun([asked])).source === 'redis')
    await until(() => limiter.remembersFor > 5000)
  }
  process.send?.({ result: 'ready' })
}
void ready()
