// The master's side of the turns: which worker asks about a recipient, and who waits for what it hears.
import { Lru } from '../../../core/limiter/lru'
import type { Answer } from './cache'
import { isSince, type Outcome, type Since } from './turns'

/** A worker that has not told the outcome within so many ms has lost its turn: a question takes 20 s at most. */
const LONGEST_TURN = 22_000
/** Answers for workers that ask later, where there is no Redis; the longest known go first. Who asks says how old they may be. */
const CAPACITY = 20_000

/** One request of a worker. */
export interface Request {
  worker: number
  number: number
  /** What it wants to ask about. */
  name: string
}

/** How the table tells a worker: its turn has come, or the outcome is there. */
export type Tell = (request: Request, outcome?: Outcome) => void

interface Asking {
  by: number
  waiting: Request[]
  timer: NodeJS.Timeout
}

/** Who asks and who waits, by name. It never waits itself. */
export class TurnTable {
  #asking = new Map<string, Asking>()
  #answers = new Lru<Answer>(CAPACITY, () => false)

  constructor(
    private readonly tell: Tell,
    private readonly longestTurn = LONGEST_TURN,
  ) {}

  /** A worker wants to ask: it gets an answer that is new enough, waits, or has its turn. */
  request(request: Request, since: Since): void {
    const { name } = request
    const answer = this.#answers.get(name, 0)
    if (answer && isSince(answer, since)) {
      this.tell(request, { answer })
      return
    }
    const asking = this.#asking.get(name)
    if (asking) asking.waiting.push(request)
    else this.#begin(request, [])
  }

  /** A worker tells what came of its turn; nothing: it has asked nobody, and the next one may. */
  done(name: string, outcome?: Outcome): void {
    if (outcome?.answer) this.#answers.set(name, outcome.answer, 0)
    const asking = this.#asking.get(name)
    if (!asking) return
    if (outcome) this.#end(name, asking)
    else this.#next(name, asking)
    if (outcome) for (const request of asking.waiting) this.tell(request, outcome)
  }

  /** A worker is dead: who waits for it has its turn. */
  gone(worker: number): void {
    for (const [name, asking] of this.#asking) {
      asking.waiting = asking.waiting.filter((request) => request.worker !== worker)
      if (asking.by === worker) this.#next(name, asking)
    }
  }

  #begin(request: Request, waiting: Request[]): void {
    const { name } = request
    const late = () => this.#next(name, asking)
    const timer = setTimeout(late, this.longestTurn).unref()
    const asking: Asking = { by: request.worker, waiting, timer }
    this.#asking.set(name, asking)
    this.tell(request)
  }

  #next(name: string, asking: Asking): void {
    this.#end(name, asking)
    const [first, ...rest] = asking.waiting
    if (first) this.#begin(first, rest)
  }

  #end(name: string, { timer }: Asking): void {
    clearTimeout(timer)
    this.#asking.delete(name)
  }
}
