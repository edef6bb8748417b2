// A limiter on a real Redis, and what tests ask of it.
import assert from 'node:assert/strict'
import { Limiter } from '../../core/limiter'
import type { RedisSettings } from '../../core/redis/endpoint'
import { charge } from './limiter-contract'
import { until } from './patience'

export interface Watched {
  limiter: Limiter
  /**
   * What it logged, but for how it got its first connection: `redis: up (WHERE)`, or `down (not connected)` and `back` where
   * that takes longer than a second, as on a busy machine.
   */
  lines: string[]
}

/**
 * A limiter in this process: all on one server share a connection, as in a server. `clock`: ms of a monotonic clock, for
 * what it remembers of refusals.
 */
export function makeLimiter(settings: RedisSettings, node = 'host/1', clock?: () => number): Watched {
  const lines: string[] = []
  let wasUp = false
  let isLate = false
  const log = (line: string) => {
    const isUp = line.startsWith('redis: up (') || (isLate && line === 'redis: back')
    isLate = !wasUp && line === 'redis: down (not connected)'
    wasUp ||= isUp
    if (!isUp && !isLate) lines.push(line)
  }
  return { limiter: new Limiter({ settings, log, node, ...(clock && { clock }) }), lines }
}

/** Waits until Redis counts. */
export async function untilRedis({ limiter }: Watched): Promise<void> {
  const asked = charge('9/1h', { subject: 'nobody' })
  await until(async () => (await limiter.dryRun([asked])).source === 'redis', 'the way back to Redis')
}

export async function untilMemory({ limiter }: Watched): Promise<void> {
  const asked = charge('9/1h', { subject: 'nobody' })
  await until(async () => (await limiter.dryRun([asked])).source === 'memory', 'counting in memory')
}

/** How many of `tries` get through that are asked side by side. */
export async function fire({ limiter }: Watched, tries: number, asked = charge('10/1h')) {
  const results = await Promise.all(Array.from({ length: tries }, () => limiter.check([asked])))
  return { allowed: results.filter(({ allowed }) => allowed).length }
}

/** One line when it went, one when it came back. */
export const assertTwoLines = ({ lines }: Watched, why: RegExp) => {
  assert.equal(lines.length, 2, lines.join('\n'))
  assert.match(lines[0] ?? '', why)
  assert.equal(lines[1], 'redis: back')
}
