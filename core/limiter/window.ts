// A window held in parts of a tenth: the arithmetic of step.lua, for the memory store.

import { NEVER } from './contract'
import type { Window } from './rate'

const PARTS = 10

/** [length of a part in ms, number of the newest part, its count, older counts ...] in one small array. */
export type Parts = number[]

/** A window as it stands now: the number of the current part and the counts, the newest first. */
export interface Held {
  part: number
  current: number
  used: number
  counts: number[]
}

/** True when even the newest part lies outside of the window. */
export const isOver = ([part = 0, newest = 0]: Parts, now: number): boolean =>
  now >= (newest + PARTS + 1) * part

const sum = (counts: number[]): number => counts.reduce((total, count) => total + count, 0)

function trim(counts: number[]): number[] {
  let end = counts.length
  while (end && !counts[end - 1]) end--
  return counts.slice(0, end)
}

/**
 * The parts as they stand now. The oldest of 11 lies only partly in the window and is counted in full. Parts from
 * the future (the clock went back) are taken as if they were of now: neither lost nor counted twice.
 */
export function read(parts: Parts | undefined, { ms }: Window, now: number): Held {
  const part = ms / PARTS
  const current = Math.floor(now / part)
  if (!parts) return { part, current, used: 0, counts: [0] }
  const age = Math.max(current - parts[1]!, 0)
  const older = trim(parts.slice(2, Math.max(PARTS + 3 - age, 2)))
  const counts = older.length ? [...new Array<number>(age).fill(0), ...older] : [0]
  return { part, current, used: sum(counts), counts }
}

/** ms until enough parts have gone for the cost to fit. */
export function retryAfter({ part, current, used, counts }: Held, cost: number, limit: number, now: number) {
  if (cost > limit) return NEVER
  let excess = used + cost - limit
  for (let age = counts.length - 1; age >= 0; age--) {
    excess -= counts[age]!
    if (excess <= 0) return (current - age + PARTS + 1) * part - now
  }
  return 0
}

export function add(held: Held, cost: number): void {
  held.counts[0] = (held.counts[0] ?? 0) + cost
  held.used += cost
}

/** Takes a cost back from the part it was charged in. */
export function giveBack(held: Held, cost: number, at: number): void {
  const age = Math.max(held.current - Math.floor(at / held.part), 0)
  const count = held.counts[age]
  if (count === undefined) return
  const back = Math.min(count, cost)
  held.counts[age] = count - back
  held.used -= back
}

export const pack = ({ part, current, counts }: Held): Parts => {
  // No spread: it leaves room for 16 more in each of a million arrays.
  return [part, current, counts[0] ?? 0].concat(trim(counts.slice(1)))
}
