// A process beside this one that is asked one thing at a time: load and sink must not share the measured one's thread.
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'

export class Child<Question extends object, Answer> {
  #process: ChildProcess

  private constructor(process: ChildProcess) {
    this.#process = process
  }

  /** Starts bench/NAME.js. It ends with this process, whatever way that ends. */
  static start<Question extends object, Answer>(name: string): Child<Question, Answer> {
    return new Child(fork(join(__dirname, `${name}.js`), { serialization: 'advanced' }))
  }

  /** Rejects when the process ends instead of answering. */
  async ask(question: Question): Promise<Answer> {
    const gone = new AbortController()
    const ended = once(this.#process, 'exit', { signal: gone.signal }).then(() => {
      throw new Error('a process of the benchmark has ended')
    })
    const answer = once(this.#process, 'message', { signal: gone.signal })
    this.#process.send(question)
    try {
      const [said] = await Promise.race([answer, ended])
      return said
    } finally {
      gone.abort()
      answer.catch(() => {})
      ended.catch(() => {})
    }
  }

  async stop(): Promise<void> {
    if (!this.#process.connected) return
    const ended = once(this.#process, 'exit')
    this.#process.disconnect()
    await ended
  }
}

/** The other side: answers each question; ends when nobody can ask any more. */
export function answerQuestions<Question, Answer>(answer: (question: Question) => Promise<Answer>): void {
  process.on('disconnect', () => process.exit())
  process.on('message', (question: Question) => {
    void answer(question).then((said) => process.send?.(said))
  })
}
