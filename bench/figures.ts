// Numbers as they are shown: quantiles, ratios of paired rounds, markdown tables.

/** The value below which this part of the numbers lies; NaN of none. */
export function quantile(numbers: number[], part: number): number {
  const sorted = [...numbers].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? Number.NaN
}

/** The upper one of the two in the middle where the count is even; NaN of none. */
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

/** `median [lower quartile, upper quartile]`; of a single number itself, of none a dash. */
export function spread(numbers: number[]): string {
  if (numbers.length < 2) return show(median(numbers))
  return `${show(median(numbers))} [${show(quantile(numbers, 0.25))}, ${show(quantile(numbers, 0.75))}]`
}

/** The parts of a latency's distribution that are shown, and their names. */
const PARTS = [0.5, 0.95, 0.99]
export const PART_NAMES = ['p50', 'p95', 'p99']

/** `p50 / p95 / p99` */
export const latency = (numbers: number[]): string =>
  PARTS.map((part) => show(quantile(numbers, part))).join(' / ')

/** A round's number and the other's of the same round: what slows the machine down for a while slows both. */
type Paired = (number: number, other: number) => number

const paired =
  (how: Paired) =>
  (numbers: number[], others: number[]): number[] =>
    numbers.map((number, round) => how(number, others[round] ?? Number.NaN))

/** Each round's number divided by the other's of the same round. */
export const ratios = paired((number, other) => number / other)

/** Each round's number less the other's of the same round. */
export const differences = paired((number, other) => number - other)

/** How the p50, p95 and p99 of each round compare with those of others in the same round: for each part, a number a round. */
export function latencyCompared(how: typeof ratios, rounds: number[][], others: number[][]): number[][] {
  const at = (part: number, all: number[][]) => all.map((times) => quantile(times, part))
  return PARTS.map((part) => how(at(part, rounds), at(part, others)))
}

/** A table in markdown. */
export function table(head: string[], rows: string[][]): string {
  const line = (cells: string[]) => `| ${cells.join(' | ')} |\n`
  return `${line(head)}|${'---|'.repeat(head.length)}\n${rows.map(line).join('')}`
}

/** `- **name**: about` for each. */
export const legend = (all: { name: string; about: string }[]): string =>
  all.map(({ name, about }) => `- **${name}**: ${about}\n`).join('')

/** The same in a random order. */
export function shuffled<T>(list: T[]): T[] {
  return list
    .map((one) => ({ one, place: Math.random() }))
    .sort((a, b) => a.place - b.place)
    .map(({ one }) => one)
}
