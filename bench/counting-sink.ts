// Postfix's smtp-sink as next hop: written in C, it takes little of the cores that the measured servers need, and counts.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { freePort } from '../test/support/ports'
import { until } from '../test/support/redis'

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => resolve(true))
    socket.on('error', () => resolve(false))
    socket.on('connect', () => socket.destroy())
  })
}

export class CountingSink {
  /** Messages that it has taken so far. */
  received = 0
  #heard: () => void = () => {}

  private constructor(
    readonly port: number,
    private readonly process: ChildProcess,
  ) {
    process.stdout?.setEncoding('latin1').on('data', (text: string) => {
      this.received = Number([...text.matchAll(/mesg=(\d+)\r/g)].at(-1)?.[1] ?? this.received)
      this.#heard()
    })
  }

  static async start(): Promise<CountingSink> {
    const port = await freePort()
    const args = ['-u', 'nobody', '-c', '-m', '1000', `127.0.0.1:${port}`, '1000']
    const sink = new CountingSink(port, spawn('smtp-sink', args, { stdio: ['ignore', 'pipe', 'ignore'] }))
    process.on('exit', () => sink.process.kill())
    await until(() => accepts(port), 'smtp-sink')
    return sink
  }

  /** Resolves when `received` has come to `count`; rejects when that takes longer than `ms`. */
  async until(count: number, ms = 60_000): Promise<void> {
    const end = AbortSignal.timeout(ms)
    await new Promise<void>((resolve, reject) => {
      const missing = () => reject(new Error(`the next hop has ${this.received} of ${count} messages`))
      end.addEventListener('abort', missing)
      this.#heard = () => {
        if (this.received < count) return
        end.removeEventListener('abort', missing)
        resolve()
      }
      this.#heard()
    })
  }

  async stop(): Promise<void> {
    const gone = once(this.process, 'exit')
    this.process.kill()
    await gone
  }
}
