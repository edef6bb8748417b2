// The memory store of a Haraka with several workers lives in the master, so that they count together. Workers ask it
// by messages, all of one tick in one. Haraka passes by messages without `cmd` and `event`.
import cluster, { type Worker } from 'node:cluster'
import { hostname } from 'node:os'
import type { Answer, Block, CounterKey, Lease, Step } from './contract'
import type { Blame, Primary } from './failover'
import type { MemoryStore } from './memory-store'

type Ask =
  | { do: 'step'; step: Step; now?: number }
  | { do: 'renew' | 'release'; leases: Lease[]; now?: number }
  | { do: 'block'; block: Block }
  | { do: 'unblock' | 'reset'; subject: CounterKey }

interface Asks {
  relayGuard: 'limiter'
  asks: [number, Ask][]
}

interface Answers {
  relayGuard: 'limiter'
  answers: [number, Answer | null][]
}

const isOurs = (message: unknown): message is Partial<Asks & Answers> =>
  typeof message === 'object' &&
  message !== null &&
  'relayGuard' in message &&
  message.relayGuard === 'limiter'

async function perform(store: MemoryStore, ask: Ask): Promise<Answer | null> {
  if (ask.do === 'step') return store.step(ask.step, ask.now)
  if (ask.do === 'renew') await store.renew(ask.leases, ask.now)
  if (ask.do === 'release') await store.release(ask.leases)
  if (ask.do === 'block') await store.block(ask.block)
  if (ask.do === 'unblock') await store.unblock(ask.subject)
  if (ask.do === 'reset') await store.reset(ask.subject)
  return null
}

/** In the master: answers the workers, and gives back the leases of those that die. Returns how to stop. */
export function serveMemory(store: MemoryStore): () => void {
  const onMessage = async (worker: Worker, message: unknown) => {
    if (!isOurs(message) || !message.asks) return
    const answers: Answers['answers'] = []
    for (const [number, ask] of message.asks) answers.push([number, await perform(store, ask)])
    // The worker may have died meanwhile.
    worker.send({ relayGuard: 'limiter', answers } satisfies Answers, () => {})
  }
  const onExit = (worker: Worker) => store.releaseAll(`${hostname()}/${worker.process.pid}`)
  cluster.on('message', onMessage)
  cluster.on('exit', onExit)
  return () => {
    cluster.off('message', onMessage)
    cluster.off('exit', onExit)
  }
}

interface Waiting {
  resolve(answer: Answer | null): void
  reject(error: Error): void
}

/** In a worker: the master's store. Rejects when the master cannot be reached; does not time out by itself. */
export class MemoryClient implements Primary {
  readonly source = 'memory'
  #number = 0
  #waiting = new Map<number, Waiting>()
  #asks: Asks['asks'] = []

  constructor() {
    process.on('message', this.#onMessage)
  }

  async step(step: Step, now?: number): Promise<Answer> {
    const answer = await this.#ask({ do: 'step', step, ...(now !== undefined && { now }) })
    if (!answer) throw new Error('the master gave no answer')
    return answer
  }

  async renew(leases: Lease[]): Promise<void> {
    if (leases.length) await this.#ask({ do: 'renew', leases })
  }

  async release(leases: Lease[]): Promise<void> {
    if (leases.length) await this.#ask({ do: 'release', leases })
  }

  async block(block: Block): Promise<void> {
    await this.#ask({ do: 'block', block })
  }

  async unblock(subject: CounterKey): Promise<void> {
    await this.#ask({ do: 'unblock', subject })
  }

  async reset(subject: CounterKey): Promise<void> {
    await this.#ask({ do: 'reset', subject })
  }

  async probe(): Promise<void> {
    await this.step({ op: 'dry-run', charges: [], leases: [], by: '' })
  }

  blame(): Blame {
    return 'store'
  }

  close(): void {
    process.off('message', this.#onMessage)
  }

  #onMessage = (message: unknown): void => {
    if (!isOurs(message) || !message.answers) return
    for (const [number, answer] of message.answers) {
      this.#waiting.get(number)?.resolve(answer)
      this.#waiting.delete(number)
    }
  }

  #ask(ask: Ask): Promise<Answer | null> {
    if (!this.#asks.length) setImmediate(() => this.#send())
    const number = ++this.#number
    this.#asks.push([number, ask])
    return new Promise((resolve, reject) => this.#waiting.set(number, { resolve, reject }))
  }

  #send(): void {
    const asks = this.#asks
    this.#asks = []
    const failed = (error: Error) => {
      for (const [number] of asks) {
        this.#waiting.get(number)?.reject(error)
        this.#waiting.delete(number)
      }
    }
    if (!process.connected || !process.send) {
      failed(new Error('the master is gone'))
      return
    }
    process.send({ relayGuard: 'limiter', asks } satisfies Asks, undefined, undefined, (error) => {
      if (error) failed(error)
    })
  }
}
