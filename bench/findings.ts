// What was worse than what it is compared with: found in the figures, so that no table hides it.
import { quantile, spread } from './figures'

/** What a part of the benchmark hands over: its tables, and in which figures this package did worse. */
export interface Section {
  text: string
  worse: string[]
}

/** One figure of two set-ups, a number for each round. */
export interface Comparison {
  what: string
  /** In words, with its unit: `sessions/s`. */
  figure: string
  than: string
  ratios: number[]
  better: 'higher' | 'lower'
}

/** A line for each comparison in which even the better quartile of the rounds was worse. */
export function worse(comparisons: Comparison[]): string[] {
  return comparisons
    .filter(({ ratios, better }) =>
      better === 'higher' ? quantile(ratios, 0.75) < 1 : quantile(ratios, 0.25) > 1,
    )
    .map(({ what, figure, than, ratios }) => `${what}: ${spread(ratios)} times the ${figure} of ${than}`)
}

/** The same where milliseconds say more than a ratio: `differences` has one for each round. */
export function longer(what: string, figure: string, than: string, differences: number[]): string[] {
  if (!(quantile(differences, 0.25) > 0)) return []
  return [`${what}: ${figure} takes ${spread(differences)} ms longer than with ${than}`]
}
