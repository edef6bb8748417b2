// A limit as a value with one text form: `30/1m, 300/1h`, `20` or `unlimited`.

/** At most `limit` in any stretch of `ms`. `name` is its name in keys and replies, e.g. `1h`. */
export interface Window {
  name: string
  ms: number
  limit: number
}

/** All windows must hold. No window and `most`: so many at once, or in one message. Neither: unlimited. */
export interface Rate {
  windows: Window[]
  most?: number
}

/** The largest first. */
const UNITS: Record<string, number> = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1000 }
const SIZES: Record<string, number> = { G: 2 ** 30, M: 2 ** 20, K: 2 ** 10 }
const LONGEST = 366 * 86_400_000
/** Counts stay exact in Lua's numbers, which print 14 digits, even when several limits are added up. */
const MOST = 10_000 * 2 ** 30

/** No limit at all; prints as `unlimited`. */
export const unlimited: Rate = { windows: [] }

/** The largest unit that divides it: 3,600,000 ms is `1h`, 90,000 ms is `90s`. */
function printDuration(ms: number): string {
  const [unit = 's', size = 1000] = Object.entries(UNITS).find(([, size]) => ms % size === 0) ?? []
  return `${ms / size}${unit}`
}

/** `5G` for 5 * 2^30, `50000` for 50000. */
export function printCount(count: number): string {
  const [unit = '', size = 1] = Object.entries(SIZES).find(([, size]) => count % size === 0) ?? []
  return `${count / size}${unit}`
}

function parseCount(text: string): number {
  const [, digits = '', unit = ''] = /^(\d{1,15})([KMG]?)$/i.exec(text) ?? []
  const count = Number(digits) * (SIZES[unit.toUpperCase()] ?? 1)
  if (!digits) throw new Error(`"${text}" is not a count, allowed: a whole number, with K, M or G for sizes`)
  if (count < 1) throw new Error(`"${text}" lets nothing through, allowed: 1 or more, or unlimited`)
  if (count > MOST) throw new Error(`"${text}" is too large, allowed: up to ${printCount(MOST)}`)
  return count
}

function parseWindow(text: string): { name: string; ms: number } {
  const [, digits, unit = ''] = /^(\d{1,9})([smhd])$/.exec(text) ?? []
  const ms = Number(digits) * (UNITS[unit] ?? 0)
  if (!digits) throw new Error(`"${text}" is not a window, allowed: a whole number and s, m, h or d, as 1h`)
  if (ms < 1000 || ms > LONGEST) throw new Error(`"${text}" is not a window, allowed: from 1s to 366d`)
  return { name: printDuration(ms), ms }
}

/** Reads a limit's text form. Throws an Error that says what is wrong and what is allowed. */
export function parseRate(text: string): Rate {
  const items = text.split(',').map((item) => item.trim())
  if (items.length === 1 && items[0] === 'unlimited') return unlimited
  if (items.includes(''))
    throw new Error(`"${text}" is not a limit, allowed: 30/1m, 300/1h or 20 or unlimited`)
  const windows: Window[] = []
  for (const item of items) {
    const [count = '', window, ...rest] = item.split('/').map((part) => part.trim())
    if (rest.length) throw new Error(`"${item}" is not a limit, allowed: a count, or a count/window as 30/1m`)
    if (window === undefined) {
      if (items.length > 1)
        throw new Error(`"${item}" has no window, allowed in a list: count/window as 30/1m`)
      return { windows: [], most: parseCount(count) }
    }
    const limit = parseCount(count)
    const { name, ms } = parseWindow(window)
    if (windows.some((other) => other.ms === ms)) throw new Error(`"${text}" has the window ${name} twice`)
    windows.push({ name, ms, limit })
  }
  return { windows }
}

/** True where both let the same through. */
export const isSameRate = (a: Rate, b: Rate): boolean => a === b || printRate(a) === printRate(b)

/** The text form: reading it gives an equal limit. */
export function printRate({ windows, most }: Rate): string {
  if (most !== undefined) return printCount(most)
  return windows.map(({ name, limit }) => `${printCount(limit)}/${name}`).join(', ') || 'unlimited'
}
