// What was worse than what it is compared with: found in the figures, so that no table hides it.
import { quantile, spread } from './figures'

/** What a part of the benchmark hands over: its tables, and a line for each set-up and other that it lost to. */
export interface Section {
  text: string
  worse: string[]
}

/** One figure of a set-up beside another's, a number for each round: as a ratio, or how many ms longer it takes. */
export type Figure =
  | { name: string; ratios: number[]; better: 'higher' | 'lower' }
  | { name: string; longerBy: number[] }

/** Less than this is no difference: a part of 1, and milliseconds. */
const TOLERANCE = { ratio: 0.02, ms: 0.05 }

/** True when even the better quartile of the rounds is worse. */
function isWorse(figure: Figure): boolean {
  if ('longerBy' in figure) return quantile(figure.longerBy, 0.25) > TOLERANCE.ms
  return figure.better === 'higher'
    ? quantile(figure.ratios, 0.75) < 1 - TOLERANCE.ratio
    : quantile(figure.ratios, 0.25) > 1 + TOLERANCE.ratio
}

const inWords = (figure: Figure): string =>
  'longerBy' in figure
    ? `${figure.name} ${spread(figure.longerBy)} ms longer`
    : `${figure.name} ${spread(figure.ratios)} times`

/** One line with all figures in which `what` was worse than `than`; none where it was not. */
export function worse(what: string, than: string, figures: Figure[]): string[] {
  const lost = figures.filter(isWorse).map(inWords)
  return lost.length ? [`**${what}** beside ${than}: ${lost.join('; ')}`] : []
}
