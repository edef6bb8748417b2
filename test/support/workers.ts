// Processes that run limiter-worker.ts, and what they answer.
import { type ChildProcess, fork } from 'node:child_process'
import cluster, { type Worker } from 'node:cluster'
import { join } from 'node:path'
import type { RedisSettings } from '../../core/redis/endpoint'

type Process = Worker | ChildProcess

const FILE = join(__dirname, 'limiter-worker.js')

const isResult = (message: unknown): message is { result: unknown } =>
  typeof message === 'object' && message !== null && 'result' in message

/** The next thing that a worker says to the test. Rejects when it ends instead. */
function nextResult(worker: Process): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      worker.off('message', onMessage)
      worker.off('exit', onExit)
    }
    const onMessage = (message: unknown) => {
      if (!isResult(message)) return
      stop()
      resolve(message.result)
    }
    const onExit = (code: number | null, signal: string | null) => {
      stop()
      reject(new Error(`a worker has ended: ${code ?? signal}`))
    }
    worker.on('message', onMessage)
    worker.on('exit', onExit)
  })
}

/** Tells a worker what to do. */
export function tell<T>(worker: Process, order: Record<string, unknown>): Promise<T> {
  const result = nextResult(worker)
  worker.send(order)
  // What limiter-worker.ts sends is what its caller names here.
  return result as Promise<T>
}

/** Workers of this process as their master. */
export async function forkWorkers(count: number, settings: RedisSettings): Promise<Worker[]> {
  cluster.setupPrimary({ exec: FILE, args: [] })
  const env = { REDIS_SETTINGS: JSON.stringify(settings) }
  const workers = Array.from({ length: count }, () => cluster.fork(env))
  await Promise.all(workers.map(nextResult))
  return workers
}

/** Processes of their own that share a Redis, and hear what it says. */
export async function forkProcesses(count: number, settings: RedisSettings): Promise<ChildProcess[]> {
  const env = { ...process.env, REDIS_SETTINGS: JSON.stringify(settings) }
  const children = Array.from({ length: count }, () => fork(FILE, { env }))
  await Promise.all(children.map(nextResult))
  return children
}
