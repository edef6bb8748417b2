// Which decisions go into the log stream one by one: all of them in quiet times, a few of each kind in a flood.

import type { DecisionRecord } from '../decision'
import { clean } from '../text'
import { copyOf } from './tally'

/** In one second: of all, of one outcome, and of one outcome for one subject. */
const ALL = 20
const OUTCOME = 10
const SUBJECT = 2
/** Entries that wait while Redis is away; the oldest go first. */
const WAITING = 200

const LEFT_OUT = 'log.left-out'
const FIELDS = ['id', 'ip', 'user', 'from', 'to', 'plugin', 'outcome', 'rule', 'reply'] as const

/** Decisions until they are taken for a batch. */
export class Sample {
  #waiting: string[][] = []
  #leftOut = 0
  #second = 0
  #taken = 0
  #takenOf = new Map<string, number>()

  /** `node`: HOST/PID, as entries name it. */
  constructor(private readonly node: string) {}

  /** Keeps a decision, unless there were too many of its kind in this second. `subject`: who it is counted for. */
  add(decision: DecisionRecord, subject: string): void {
    if (!this.#hasRoom(decision, subject)) {
      this.#leftOut++
      return
    }
    const known = FIELDS.flatMap((name) => {
      const value = decision[name]
      return value === undefined ? [] : [name, copyOf(clean(value))]
    })
    this.#waiting.push([...this.#head(decision.time), ...known])
    this.#shorten()
  }

  /** Takes back entries that could not be written, for the next batch. */
  putBack(entries: string[][]): void {
    const decisions = entries.filter((entry) => !entry.includes(LEFT_OUT))
    for (const entry of entries) if (entry.includes(LEFT_OUT)) this.#leftOut += Number(entry.at(-1))
    this.#waiting.unshift(...decisions)
    this.#shorten()
  }

  /** The oldest go first. */
  #shorten(): void {
    const tooMany = this.#waiting.length - WAITING
    if (tooMany <= 0) return
    this.#waiting.splice(0, tooMany)
    this.#leftOut += tooMany
  }

  /** Each entry's fields and values, at a time (unix ms). The last one says how many decisions were left out, if any were. */
  take(now: number): string[][] {
    const entries = this.#waiting
    if (this.#leftOut) entries.push([...this.#head(now), 'outcome', LEFT_OUT, 'left_out', `${this.#leftOut}`])
    this.#waiting = []
    this.#leftOut = 0
    return entries
  }

  #head(time: number): string[] {
    return ['time', new Date(time).toISOString(), 'node', this.node]
  }

  #hasRoom({ time, outcome }: DecisionRecord, subject: string): boolean {
    const second = Math.floor(time / 1000)
    if (second !== this.#second) {
      this.#second = second
      this.#taken = 0
      this.#takenOf.clear()
    }
    if (this.#taken >= ALL) return false
    const pair = `${outcome} ${subject}`
    const ofOutcome = this.#takenOf.get(outcome) ?? 0
    const ofPair = this.#takenOf.get(pair) ?? 0
    if (ofOutcome >= OUTCOME || ofPair >= SUBJECT) return false
    this.#taken++
    this.#takenOf.set(outcome, ofOutcome + 1).set(pair, ofPair + 1)
    return true
  }
}
