// The arithmetic of a window that is held in ten buckets: what step.lua does, for the memory store. In Redis the same
// numbers stand in the field `W.parts`.

import { NEVER } from './contract'
import type { Window } from './rate'

/** In so many parts a window is held. */
export const BUCKETS = 10

/** [width of a bucket in ms, number of the newest bucket, its count, older counts ...] in one small array. */
export type Buckets = number[]

/** A window as it stands now. */
export interface Held {
  /** ms that one bucket lasts. */
  width: number
  /** The number of the current bucket: unix ms divided by the width. */
  current: number
  /** The sum of the counts. */
  used: number
  /** One count a bucket, the newest first. */
  counts: number[]
}

/** True when even the newest bucket lies outside of the window. */
export const isOver = ([width = 0, newest = 0]: Buckets, now: number): boolean =>
  now >= (newest + BUCKETS + 1) * width

const sum = (counts: number[]): number => counts.reduce((total, count) => total + count, 0)

function trim(counts: number[]): number[] {
  let end = counts.length
  while (end && !counts[end - 1]) end--
  return counts.slice(0, end)
}

/**
 * The buckets as they stand at `now` (unix ms). The oldest of 11 lies only partly in the window and counts in full.
 * Buckets from the future (the clock went back) are taken as if they were of now: neither lost nor counted twice.
 */
export function read(buckets: Buckets | undefined, { ms }: Window, now: number): Held {
  const width = ms / BUCKETS
  const current = Math.floor(now / width)
  if (!buckets) return { width, current, used: 0, counts: [0] }
  const age = Math.max(current - buckets[1]!, 0)
  const older = trim(buckets.slice(2, Math.max(BUCKETS + 3 - age, 2)))
  const counts = older.length ? [...new Array<number>(age).fill(0), ...older] : [0]
  return { width, current, used: sum(counts), counts }
}

/** ms until enough buckets have left the window for the cost to fit; NEVER where it is more than the whole limit. */
export function retryAfter({ width, current, used, counts }: Held, cost: number, limit: number, now: number) {
  if (cost > limit) return NEVER
  let excess = used + cost - limit
  for (let age = counts.length - 1; age >= 0; age--) {
    excess -= counts[age]!
    if (excess <= 0) return (current - age + BUCKETS + 1) * width - now
  }
  return 0
}

/** Adds a cost to the current bucket. */
export function add(held: Held, cost: number): void {
  held.counts[0] = (held.counts[0] ?? 0) + cost
  held.used += cost
}

/** Takes a cost back from the bucket that it was charged to, at `at` (unix ms); never below nothing. */
export function giveBack(held: Held, cost: number, at: number): void {
  const age = Math.max(held.current - Math.floor(at / held.width), 0)
  const count = held.counts[age]
  if (count === undefined) return
  const back = Math.min(count, cost)
  held.counts[age] = count - back
  held.used -= back
}

/** The array that is kept of a window. */
export const pack = ({ width, current, counts }: Held): Buckets => {
  // No spread: it leaves room for 16 more in each of a million arrays.
  return [width, current, counts[0] ?? 0].concat(trim(counts.slice(1)))
}
