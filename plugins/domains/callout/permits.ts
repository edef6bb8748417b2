// At most `questions` to one next hop, counted over all workers, and over all servers that share a Redis.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Charge, Limiter } from '../../../core/limiter'
import { Lru } from '../../../core/limiter/lru'
import type { Rate } from '../../../core/limiter/rate'

/** Who finds no permit tries again after these pauses, ms, where other workers may give some back. */
const PAUSES = [30, 60]
/** For so long after a permit was spent nobody waits for another one, ms: recipients are being guessed. */
const GUESSING = 1_000
/** Who wait for one next hop in this process; more are told to come again. */
const MOST_WAITING = 1_000

/** The right to one question. One of the two is called, once. */
export interface Permit {
  /** It was a question. */
  spend(): void
  /** It was none, as the recipient is known: it counts for nothing, and the next one may ask. */
  giveBack(): void
}

interface Line {
  underWay: number
  /** How many came back. */
  returned: number
  /** Called when a permit came back (true), or when none can come back any more. */
  waiting: ((hasCome: boolean) => void)[]
}

/** Gives out permits. */
export class Permits {
  #lines = new Map<string, Line>()
  /** When a permit was spent last. */
  #spent = new Lru<number>(1_000, (at, now) => now - at > GUESSING)

  /** `limiter` returns undefined where nothing is counted. */
  constructor(private readonly limiter: () => Pick<Limiter, 'check' | 'refund'> | undefined) {}

  /** A permit for a question to this next hop, if there is one now. Never rejects. */
  take(nextHop: string, limit: Rate): Promise<Permit | undefined> {
    return this.#take(nextHop, limit, false)
  }

  /** `brief`: that it was refused is not remembered, for others may give back what was no question. */
  async #take(nextHop: string, limit: Rate, brief: boolean): Promise<Permit | undefined> {
    const limiter = this.limiter()
    const charge: Charge = {
      scope: 'next hop',
      subject: nextHop,
      what: 'questions',
      cost: 1,
      limit,
      brief,
    }
    const result = await limiter?.check([charge])
    if (result && !result.allowed) return undefined
    const line = this.#lines.get(nextHop) ?? { underWay: 0, returned: 0, waiting: [] }
    this.#lines.set(nextHop, line)
    line.underWay++
    return {
      spend: () => {
        const now = performance.now()
        this.#spent.set(nextHop, now, now)
        this.#end(nextHop, line, false)
      },
      giveBack: () => {
        const refunded = result && limiter?.refund(result)
        void Promise.resolve(refunded).then(() => this.#end(nextHop, line, true))
      },
    }
  }

  /**
   * The same, and where there is none, one that comes back within `ms`: most mail is for recipients that are known. Where
   * none can come back, or recipients are being guessed, nobody waits.
   */
  async takeOrWait(nextHop: string, limit: Rate, ms: number): Promise<Permit | undefined> {
    const end = performance.now() + ms
    for (let tries = 0; performance.now() < end; ) {
      if (this.#spent.get(nextHop, performance.now()) !== undefined) return this.take(nextHop, limit)
      const before = this.#lines.get(nextHop)?.returned
      const permit = await this.#take(nextHop, limit, true)
      if (permit) return permit
      const line = this.#lines.get(nextHop)
      // While the limiter was asked: it may be there still.
      if (line && before !== undefined && line.returned > before) continue
      const pause = PAUSES[tries]
      if (line && line.waiting.length < MOST_WAITING) {
        if (!(await this.#wait(line, end - performance.now()))) return undefined
      } else if (pause !== undefined && !line) {
        tries++
        await sleep(pause)
      } else return undefined
    }
    return undefined
  }

  #wait(line: Line, ms: number): Promise<boolean> {
    return new Promise((resolve) => {
      const end = (hasCome: boolean) => {
        clearTimeout(timer)
        resolve(hasCome)
      }
      const late = () => {
        line.waiting = line.waiting.filter((each) => each !== end)
        resolve(false)
      }
      const timer = setTimeout(late, Math.max(1, ms))
      line.waiting.push(end)
    })
  }

  /** One permit ends: who waits may try again, one for one that came back, and all when no other one is under way. */
  #end(nextHop: string, line: Line, hasComeBack: boolean): void {
    line.underWay--
    if (hasComeBack) line.returned++
    if (line.underWay > 0) {
      if (hasComeBack) line.waiting.shift()?.(true)
      return
    }
    this.#lines.delete(nextHop)
    for (const end of line.waiting.splice(0)) end(hasComeBack)
  }
}
