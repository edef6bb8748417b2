// An exact log of what got through a limit.

/** What got through: when by the clock of Redis, when by a clock that nobody sets, and how much. */
export interface Spend {
  at: number
  steady: number
  cost: number
}

/** The most that got through in any stretch of `ms`, by one of the two clocks. */
export function most(spends: Spend[], ms: number, by: 'at' | 'steady' = 'at'): number {
  const sorted = [...spends].sort((a, b) => a[by] - b[by])
  let [largest, sum, first] = [0, 0, 0]
  for (const spend of sorted) {
    sum += spend.cost
    while (sorted[first]![by] <= spend[by] - ms) sum -= sorted[first++]!.cost
    largest = Math.max(largest, sum)
  }
  return largest
}
