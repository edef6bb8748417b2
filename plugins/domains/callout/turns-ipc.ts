// Turns over all workers of a host: the master holds the table, workers ask it by messages. Haraka passes by messages
// without `cmd` and `event`.
import cluster, { type Worker } from 'node:cluster'
import { noAnswer } from '../../../core/next-hop/reply'
import { type Tell, TurnTable } from './turn-table'
import type { Outcome, Since, Turns } from './turns'

interface Request {
  do: 'request'
  number: number
  name: string
  since: Since
}

interface Done {
  do: 'done'
  name: string
  outcome?: Outcome
}

/** To a worker: without an outcome its turn has come. */
interface Told {
  do: 'tell'
  number: number
  name: string
  outcome?: Outcome
}

type Message = (Request | Done | Told) & { relayGuard: 'callout' }

const isOurs = (message: unknown): message is Message =>
  typeof message === 'object' &&
  message !== null &&
  'relayGuard' in message &&
  message.relayGuard === 'callout'

/** In the master: serves the workers until the process ends. */
export function serveTurns(): void {
  const tell: Tell = ({ worker, number, name }, outcome) => {
    const message: Message = { relayGuard: 'callout', do: 'tell', number, name, ...(outcome && { outcome }) }
    // The worker may have died meanwhile.
    cluster.workers?.[worker]?.send(message, () => {})
  }
  const table = new TurnTable(tell)
  cluster.on('message', ({ id }: Worker, message: unknown) => {
    if (!isOurs(message)) return
    if (message.do === 'request')
      table.request({ worker: id, number: message.number, name: message.name }, message.since)
    if (message.do === 'done') table.done(message.name, message.outcome)
  })
  cluster.on('exit', ({ id }: Worker) => table.gone(id))
}

/** In a worker: the master's turns. Nobody waits for the master longer than `patience` ms. */
export class SharedTurns implements Turns {
  #number = 0
  #waiting = new Map<number, (told: Told | undefined) => void>()

  constructor(private readonly patience: number) {
    process.on('message', (message) => {
      if (isOurs(message) && message.do === 'tell') this.#told(message)
    })
  }

  async take(name: string, since: Since, ask: () => Promise<Outcome>): Promise<Outcome> {
    // Without a master each worker asks by itself.
    if (!process.connected) return ask()
    const told = await this.#request(name, since)
    if (!told) return { reply: noAnswer('another worker has asked and heard nothing in time') }
    if (told.outcome) return told.outcome
    let outcome: Outcome | undefined
    try {
      outcome = await ask()
      return outcome
    } finally {
      send({ relayGuard: 'callout', do: 'done', name, ...(outcome && { outcome }) })
    }
  }

  #request(name: string, since: Since): Promise<Told | undefined> {
    const number = ++this.#number
    return new Promise((resolve) => {
      const end = (told: Told | undefined) => {
        clearTimeout(timer)
        this.#waiting.delete(number)
        resolve(told)
      }
      const timer = setTimeout(end, this.patience, undefined)
      this.#waiting.set(number, end)
      send({ relayGuard: 'callout', do: 'request', number, name, since })
    })
  }

  #told(told: Told): void {
    const waiting = this.#waiting.get(told.number)
    if (waiting) waiting(told)
    // Nobody waits here any more: the next worker may ask.
    else if (!told.outcome) send({ relayGuard: 'callout', do: 'done', name: told.name })
  }
}

const send = (message: Message): void => {
  process.send?.(message, undefined, undefined, () => {})
}
