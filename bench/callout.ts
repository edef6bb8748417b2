// A dictionary attack on recipients that are asked of the next hop: what it is asked, and what others notice.
import { setTimeout as sleep } from 'node:timers/promises'
import { startHaraka } from '../test/support/haraka'
import { RedisServer } from '../test/support/redis'
import { SmtpClient } from '../test/support/smtp-client'
import type { CalloutSinkAnswer } from './callout-sink'
import { Child } from './child'
import { latency } from './figures'

const ADDRESSES = 100_000
const AT_ONCE = 50
const IN_ONE_SESSION = 200
const PIPELINED = 20

/** The most of these moments (ms, in order) that lie within one second. */
function mostInASecond(moments: number[]): number {
  let most = 0
  let first = 0
  for (const [last, moment] of moments.entries()) {
    while (moment - moments[first]! >= 1000) first++
    most = Math.max(most, last - first + 1)
  }
  return most
}

async function session(port: number): Promise<SmtpClient> {
  const client = await SmtpClient.connect({ port })
  await client.ehlo()
  await client.command('MAIL FROM:<a@sender.test>')
  return client
}

/** Asks for all of these addresses, once each. Returns how often which code was answered. */
async function attack(port: number, count: number): Promise<Map<number, number>> {
  const codes = new Map<number, number>()
  let next = 0
  const attacker = async () => {
    while (next < count) {
      const client = await session(port)
      const end = Math.min(next + IN_ONE_SESSION, count)
      const from = next
      next = end
      for (let at = from; at < end; at += PIPELINED) {
        const lines = Array.from(
          { length: Math.min(PIPELINED, end - at) },
          (_, n) => `RCPT TO:<x${at + n}@box.test>`,
        )
        for (const { code } of await client.pipeline(lines)) codes.set(code, (codes.get(code) ?? 0) + 1)
      }
      client.destroy()
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, attacker))
  return codes
}

/** How long RCPT for a known recipient takes, ms, some ten times a second until `isOver`. Throws where it is refused. */
async function known(port: number, isOver: () => boolean): Promise<number[]> {
  const times: number[] = []
  while (!isOver()) {
    const client = await session(port)
    const begin = performance.now()
    const { code, text } = await client.command('RCPT TO:<anna@box.test>')
    times.push(performance.now() - begin)
    client.destroy()
    if (code !== 250) throw new Error(`the known recipient was answered ${code} ${text}`)
    await sleep(100)
  }
  return times
}

async function measure(delivery: 'queue' | 'forward'): Promise<string> {
  const sink = Child.start<object, CalloutSinkAnswer>('callout-sink')
  const { port } = await sink.ask({})
  const redis = await RedisServer.start()
  const haraka = await startHaraka({
    plugins: ['relay-guard/domains'],
    nodes: 4,
    files: {
      'log.ini': '[main]\nlevel=notice\n',
      'relay-guard/domains.ini': `[main]\nanti_spoof = off\n[box.test]\nnext_hop = smtp://127.0.0.1:${port}\ndelivery = ${delivery}\n`,
      'relay-guard/redis.ini': `[redis]\nhost = 127.0.0.1\nport = ${redis.port}\ntimeout = 5s\n`,
    },
  })
  try {
    // Each worker hears of the known one.
    for (let n = 0; n < 60; n++) (await session(haraka.port).then(askKnown)).destroy()
    const commands = async () =>
      Number(/total_commands_processed:(\d+)/.exec(String(await redis.run('INFO', 'stats')))?.[1])
    const before = await commands()
    await sink.ask({})
    let isOver = false
    const noticed = known(haraka.port, () => isOver)
    const begin = performance.now()
    const codes = await attack(haraka.port, ADDRESSES)
    const took = (performance.now() - begin) / 1000
    isOver = true
    const times = await noticed
    const { moments } = await sink.ask({})
    const figures = [
      took.toFixed(1),
      moments.length,
      mostInASecond(moments),
      codes.get(550) ?? 0,
      codes.get(451) ?? 0,
      ((await commands()) - before) / ADDRESSES,
    ].map((figure) => (typeof figure === 'number' ? Number(figure.toFixed(2)) : figure))
    return `| ${delivery} | ${figures.join(' | ')} | ${latency(times)} |`
  } finally {
    await haraka.stop()
    await redis.stop()
    await sink.stop()
  }
}

async function askKnown(client: SmtpClient): Promise<SmtpClient> {
  await client.command('RCPT TO:<anna@box.test>')
  return client
}

async function main() {
  console.log(
    '| delivery | took, s | asked at the next hop | most within 1 s | refused (550) | told to come again (451) | Redis commands an address | RCPT of a known one, ms (p50 / p95 / p99) |',
  )
  console.log('|---|---|---|---|---|---|---|---|')
  for (const delivery of ['queue', 'forward'] as const) console.log(await measure(delivery))
}

void main()
