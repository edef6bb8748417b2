// A worker of a Haraka with several: started by cluster.fork, or as a process of its own with child_process.fork.
// It does what it is told in messages `{ cmd: 'limiter', … }` and answers with `{ result }`.
import { Limiter } from '../../core/limiter'
import { charge, lease } from './limiter-contract'
import { noRedis, until } from './redis'

interface Order {
  test: 'fire' | 'open' | 'dry-run'
  tries?: number
  limit?: string
  id?: string
}

const settings = process.env.REDIS_SETTINGS ? JSON.parse(process.env.REDIS_SETTINGS) : noRedis
const lines: string[] = []
const limiter = new Limiter({ settings, log: (line) => lines.push(line) })

async function obey({ test, tries = 1, limit = '10/1h', id = '' }: Order): Promise<unknown> {
  if (test === 'open') return limiter.check([], [lease('', 2, { id: `${limiter.node}/${id}` })])
  if (test === 'dry-run') {
    const { source } = await limiter.dryRun([charge(limit, { subject: 'nobody' })])
    return { source, lines }
  }
  const verdicts = await Promise.all(Array.from({ length: tries }, () => limiter.check([charge(limit)])))
  return { allowed: verdicts.filter(({ allowed }) => allowed).length }
}

const isOrder = (message: unknown): message is Order =>
  typeof message === 'object' && message !== null && 'test' in message

process.on('message', async (message: unknown) => {
  if (isOrder(message)) process.send?.({ result: await obey(message) })
})
process.on('disconnect', () => process.exit())

async function ready(): Promise<void> {
  const asked = charge('9/1h', { subject: 'nobody' })
  if (settings.enabled) await until(async () => (await limiter.dryRun([asked])).source === 'redis')
  process.send?.({ result: 'ready' })
}
void ready()
