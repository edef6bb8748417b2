// Workers of one host write to the same disk: each tells the master what its clients are about to write, and hears from it
// what those of the others are, and how many messages wait. Haraka passes by messages without `cmd` and `event`.
import cluster, { type Worker } from 'node:cluster'
import { minus, NOTHING, plus, type Sums } from './claims'
import type { Measurements } from './policy'

/** ms in which changes are gathered. */
const GATHER = 5

interface FromWorker {
  relayGuard: 'overload'
  own: Sums
}

/** What a worker hears. */
interface FromMaster {
  relayGuard: 'overload'
  others: Sums
  queue?: Measurements['queue']
}

const isOurs = (message: unknown): message is Partial<FromWorker & FromMaster> =>
  typeof message === 'object' &&
  message !== null &&
  'relayGuard' in message &&
  message.relayGuard === 'overload'

/** In the master: adds up what the workers tell. */
export class SharedClaims {
  #own = new Map<number, Sums>()
  #queue: Measurements['queue']
  #timer: NodeJS.Timeout | undefined

  start(): void {
    cluster.on('message', (worker: Worker, message: unknown) => {
      if (!isOurs(message) || !message.own) return
      this.#own.set(worker.id, message.own)
      this.#later()
    })
    cluster.on('exit', (worker: Worker) => {
      this.#own.delete(worker.id)
      this.#later()
    })
  }

  /** Tells all workers how many messages wait. */
  tell(queue: Measurements['queue']): void {
    this.#queue = queue
    this.#later()
  }

  #later(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      const all = [...this.#own.values()].reduce(plus, NOTHING)
      for (const worker of Object.values(cluster.workers ?? {})) {
        if (!worker?.isConnected()) continue
        const others = minus(all, this.#own.get(worker.id) ?? NOTHING)
        const message: FromMaster = { relayGuard: 'overload', others, queue: this.#queue }
        // It may die meanwhile.
        worker.send(message, () => undefined)
      }
    }, GATHER).unref()
  }
}

/** In a worker. Where there are none, nobody else writes. */
export class OthersClaims {
  others = NOTHING
  queue: Measurements['queue']
  #timer: NodeJS.Timeout | undefined
  #told = NOTHING

  constructor(private readonly own: () => Sums) {}

  start(): void {
    process.on('message', (message: unknown) => {
      if (!isOurs(message) || !message.others) return
      this.others = message.others
      this.queue = message.queue
    })
  }

  /** Tells the master, in a moment, what is claimed then; again where it is the same, it does nothing. */
  tell(): void {
    if (!process.send) return
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      const own = this.own()
      if (own.queue === this.#told.queue && own.files === this.#told.files && own.spool === this.#told.spool)
        return
      this.#told = own
      if (process.connected)
        process.send?.({ relayGuard: 'overload', own } satisfies FromWorker, () => undefined)
    }, GATHER).unref()
  }
}
