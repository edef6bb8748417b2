// How often each outcome happened, and to whom, until it is written. Bounded: a flood of strangers takes no memory.
import { encodeSubject } from '../redis/keys'

const DAY = 86_400_000
/** An outcome of one day counts once: enough for days without Redis. */
const OUTCOMES = 500
/** Subjects counted between two batches; those that come after are only counted by outcome. */
const SUBJECTS = 5000
/** Subjects that are carried over to the next batch. */
const CARRIED = 1000

export interface Count {
  /** Start of the day (UTC). */
  day: Date
  outcome: string
  /** As it stands in keys; '' where all subjects are counted together. */
  subject: string
  count: number
}

/** A copy that does not keep alive the long string it was cut from. */
export const copyOf = (text: string): string => Buffer.from(text).toString()

export class Tally {
  #outcomes = new Map<string, Count>()
  #subjects = new Map<string, Count>()

  add(time: number, outcome: string, who: string): void {
    const day = Math.floor(time / DAY)
    const subject = who.length > 40 ? copyOf(encodeSubject(who)) : encodeSubject(who)
    bump(this.#outcomes, OUTCOMES, day, outcome, '')
    bump(this.#subjects, SUBJECTS, day, outcome, subject)
  }

  /** All outcomes, and of the subjects the `most` frequent ones; the others wait for the next time. */
  take(most: number): { outcomes: Count[]; subjects: Count[] } {
    const outcomes = [...this.#outcomes.values()]
    this.#outcomes.clear()
    const ranked = [...this.#subjects].sort(([, a], [, b]) => b.count - a.count)
    this.#subjects = new Map(ranked.slice(most, most + CARRIED))
    return { outcomes, subjects: ranked.slice(0, most).map(([, count]) => count) }
  }
}

function bump(counts: Map<string, Count>, most: number, day: number, outcome: string, subject: string): void {
  const name = `${day} ${outcome} ${subject}`
  const known = counts.get(name)
  if (known) known.count++
  else if (counts.size < most) counts.set(name, { day: new Date(day * DAY), outcome, subject, count: 1 })
}
