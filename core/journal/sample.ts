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

const FIELDS = ['id', 'ip', 'user', 'from', 'to', 'plugin', 'outcome', 'rule', 'reply'] as const

export class Sample {
  #waiting: string[][] = []
  #leftOut = 0
  #second = 0
  #taken = 0
  #takenOf = new Map<string, number>()

  constructor(private readonly node: string) {}

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
    if (this.#waiting.length <= WAITING) return
    this.#waiting.shift()
    this.#leftOut++
  }

  /** The entries' fields and values. The last one says how many decisions were left out, if any were. */
  take(now: number): string[][] {
    const entries = this.#waiting
    if (this.#leftOut)
      entries.push([...this.#head(now), 'outcome', 'log.left-out', 'left_out', `${this.#leftOut}`])
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
