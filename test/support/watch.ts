// What Redis is asked, and what a process costs.
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { until } from './patience'
import type { RedisServer } from './redis'

export interface Watch {
  /** The commands about counters, blocks and leases since the last call: their names and first keys. */
  take(): Promise<string[]>
  close(): void
}

/** Sees what a server is sent by MONITOR. What the journal writes once a second is left out. */
export async function watchRedis(redis: RedisServer): Promise<Watch> {
  const client = redis.client()
  const monitor = await client.monitor()
  let seen: string[] = []
  let asked = 0
  let answered = 0
  monitor.on('monitor', (_time: string, args: string[], source: string) => {
    if (source === 'lua') return
    if (args[0] === 'echo') answered = Number(args[1])
    const key = args.find((arg) => /(rate|block|concurrent):/.test(arg))
    if (key) seen.push(`${args[0]} ${key}`)
  })
  return {
    async take() {
      // What was sent before is seen before this.
      asked++
      await redis.run('echo', asked)
      await until(() => answered === asked)
      const taken = seen
      seen = []
      return taken
    },
    close() {
      monitor.disconnect()
      client.disconnect()
    },
  }
}

/** The CPU time that a process has used, ms. */
export function cpuOf(pid: number): number {
  const [, rest = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')
  const fields = rest.split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10
}

/** Connects `count` times, `atOnce` at a time, and reads until the server closes: what it said. */
export async function hammer(port: number, from: string, count: number, atOnce = 100): Promise<string[]> {
  const said: string[] = []
  const one = () =>
    new Promise<void>((resolve) => {
      let text = ''
      const socket = connect({ port, host: '127.0.0.1', localAddress: from })
      socket.setEncoding('utf8').on('data', (part: string) => {
        text += part
      })
      socket.on('error', () => {})
      socket.on('close', () => {
        said.push(text)
        resolve()
      })
    })
  let left = count
  const worker = async () => {
    while (left-- > 0) await one()
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
  return said
}
