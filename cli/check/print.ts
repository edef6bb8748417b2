// What `check` found, as lines for a person.
import type { Answer } from './ask'

export interface Report {
  mistakes: string[]
  warnings: string[]
  nextHops: Answer[]
  smarthost: Answer[]
  /** Undefined: not asked, because limits is not loaded or Redis is switched off. */
  redis?: { ok: boolean; said: string }
}

/** Whether a server can be started with this: warnings are no reason not to. */
export const isGood = ({ mistakes, nextHops, smarthost, redis }: Report): boolean =>
  mistakes.length === 0 && [...nextHops, ...smarthost].every(({ ok }) => ok) && redis?.ok !== false

/** The lines, the last of them the verdict. */
export function printReport(report: Report): string[] {
  const { mistakes, warnings, nextHops, smarthost, redis } = report
  return [
    ...mistakes.map((mistake) => `error: ${mistake}`),
    ...warnings.map((warning) => `warning: ${warning}`),
    ...[...nextHops, ...smarthost].map(printAnswer),
    ...(redis ? [`${redis.ok ? 'reached' : 'NOT reached'}: Redis: ${redis.said}`] : []),
    verdict(report),
  ]
}

function printAnswer({ domain, nextHop, reached, ok, said }: Answer): string {
  if (domain === undefined) return `${reached ? 'reached' : 'NOT reached'}: smarthost ${nextHop}: ${said}`
  const words = ok ? 'reached' : reached ? `reached, but postmaster@${domain} is not taken` : 'NOT reached'
  return `${words}: ${nextHop} for ${domain}: ${said}`
}

function verdict(report: Report): string {
  if (isGood(report)) return 'The ini files are good.'
  const { mistakes, nextHops, smarthost, redis } = report
  const bad = [
    ...(mistakes.length > 0 ? [counted(mistakes.length, 'error')] : []),
    ...[...nextHops, ...smarthost].filter(({ ok }) => !ok).map(({ nextHop }) => nextHop),
    ...(redis?.ok === false ? ['Redis'] : []),
  ]
  return `Not good: ${bad.join(', ')}.`
}

const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`
