// How often each outcome happened, and to whom, until it is written. Bounded: a flood of strangers takes no memory.
import { encodeSubject } from '../redis/keys'

const DAY = 86_400_000
/** An outcome of one day counts once: enough for days without Redis. */
const OUTCOMES = 500
/** Subjects counted between two batches; those that come after are only counted by outcome. */
const SUBJECTS = 5000
/** Subjects that are carried over to the next batch. */
const CARRIED = 1000

/** So often an outcome has happened on a day, in all or to one subject. */
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

/** Counts until they are taken for a batch. */
export class Tally {
  #outcomes = new Map<string, Count>()
  #subjects = new Map<string, Count>()

  /** Counts an outcome at a time (unix ms), for a subject as it was named by a client. */
  add(time: number, outcome: string, who: string): void {
    const day = new Date(Math.floor(time / DAY) * DAY)
    const subject = who.length > 40 ? copyOf(encodeSubject(who)) : encodeSubject(who)
    bump(this.#outcomes, OUTCOMES, { day, outcome, subject: '', count: 1 })
    bump(this.#subjects, SUBJECTS, { day, outcome, subject, count: 1 })
  }

  /** All outcomes, and of the subjects the `most` frequent ones; the others wait for the next time. */
  take(most: number): { outcomes: Count[]; subjects: Count[] } {
    const outcomes = [...this.#outcomes.values()]
    this.#outcomes.clear()
    const ranked = [...this.#subjects].sort(([, a], [, b]) => b.count - a.count)
    this.#subjects = new Map(ranked.slice(most, most + CARRIED))
    return { outcomes, subjects: ranked.slice(0, most).map(([, count]) => count) }
  }

  /** Takes back what could not be written, for the next batch. */
  putBack(counts: Count[]): void {
    for (const count of counts) {
      if (count.subject === '') bump(this.#outcomes, OUTCOMES, count)
      else bump(this.#subjects, SUBJECTS, count)
    }
  }
}

function bump(counts: Map<string, Count>, most: number, more: Count): void {
  const name = `${more.day.getTime()} ${more.outcome} ${more.subject}`
  const known = counts.get(name)
  if (known) known.count += more.count
  else if (counts.size < most) counts.set(name, { ...more })
}
