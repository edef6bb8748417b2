// One question at a time about one recipient: who asks for the same meanwhile gets the same outcome.
import type { Reply } from '../../../core/next-hop/reply'
import type { Answer, Lifetimes } from './cache'

/** What came of a question. */
export interface Outcome {
  /** The next hop's own answer, or that there is none. */
  reply?: Reply
  /** What is known by now, where the answer speaks of the mailbox. */
  answer?: Answer
  /** It was not asked: so many questions were asked already as `questions` allows. */
  isOverLimit?: true
}

/** An earlier answer will do as well, if it was given after these moments (unix ms). */
export type Since = Lifetimes

/** Whether an answer is from after these moments. */
export const isSince = ({ state, asked }: Answer, since: Since): boolean => asked > since[state]

/** Who asks when. */
export interface Turns {
  /** The outcome of `ask`, or of somebody else's question about the same `name`. Never rejects if `ask` does not. */
  take(name: string, since: Since, ask: () => Promise<Outcome>): Promise<Outcome>
}

/** The turns of one process. `behind`: how those who come first here get their turn among other processes. */
export class LocalTurns implements Turns {
  #asking = new Map<string, Promise<Outcome>>()

  constructor(private readonly behind?: Turns) {}

  take(name: string, since: Since, ask: () => Promise<Outcome>): Promise<Outcome> {
    const under = this.#asking.get(name)
    if (under) return under
    const asked = this.behind ? this.behind.take(name, since, ask) : ask()
    this.#asking.set(name, asked)
    const over = () => this.#asking.delete(name)
    asked.then(over, over)
    return asked
  }
}
