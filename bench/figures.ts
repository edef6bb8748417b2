// Numbers as they are shown: quantiles, ratios of paired rounds, markdown tables.

/** The value below which this part of the numbers lies; NaN of none. */
export function quantile(numbers: number[], part: number): number {
  const sorted = [...numbers].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? Number.NaN
}

export const median = (numbers: number[]): number => quantile(numbers, 0.5)

/** Three digits that count, or a dash where there is no number. */
export function show(value: number): string {
  if (!Number.isFinite(value)) return '-'
  if (Math.abs(value) >= 100) return value.toFixed(0)
  return value
    .toPrecision(3)
    .replace(/(\.\d*?)0+$/, '$1')
    .replace(/\.$/, '')
}

/** `median [lower quartile, upper quartile]` */
export function spread(numbers: number[]): string {
  if (numbers.length === 0) return '-'
  return `${show(median(numbers))} [${show(quantile(numbers, 0.25))}, ${show(quantile(numbers, 0.75))}]`
}

/** `p50 / p95 / p99` */
export const latency = (numbers: number[]): string =>
  [0.5, 0.95, 0.99].map((part) => show(quantile(numbers, part))).join(' / ')

/** Each round's number divided by the other's of the same round: what slows the machine down for a while slows both. */
export const ratios = (numbers: number[], others: number[]): number[] =>
  numbers.map((number, round) => number / (others[round] ?? Number.NaN))

export function table(head: string[], rows: string[][]): string {
  const line = (cells: string[]) => `| ${cells.join(' | ')} |\n`
  return `${line(head)}|${'---|'.repeat(head.length)}\n${rows.map(line).join('')}`
}

export function shuffled<T>(list: T[]): T[] {
  return list
    .map((one) => ({ one, place: Math.random() }))
    .sort((a, b) => a.place - b.place)
    .map(({ one }) => one)
}
