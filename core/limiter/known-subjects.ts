// What this worker knows of each subject since it began to listen: that it is not blocked, and the budgets it holds.
// What is heard of a subject only ever makes it forget.
import { tagOf } from '../redis/keys'
import type { Budget } from './budget'
import type { CounterKey } from './contract'

/** Subjects that are known at once, at most; the oldest go first. */
const CAPACITY = 50_000
/** Blocked names besides addresses that are kept, at most; with more, each name is asked for. */
const SUSPECTS = 10_000

/** A question that is on its way. What is heard before its answer arrives may be newer than that. */
export interface Asking {
  users: number
  /** A block of the subject may have changed, or it was reset. */
  isStale: boolean
  /** Somebody wanted back what the answer may grant. */
  isRecalled: boolean
}

/** One subject as this worker knows it. */
export interface KnownSubject extends CounterKey {
  tag: string
  /** Not blocked when the store was last asked, and nothing was heard since. */
  isClear: boolean
  asking: Asking | undefined
  /** By what is counted. */
  budgets: Map<string, Budget>
}

/** Addresses are asked about when they connect; all other names are few enough to know those that are blocked. */
const isAddress = (tag: string): boolean => tag.startsWith('{ip:') || tag.startsWith('{network:')

/** Bounded. `forgotten` is called with what goes. */
export class KnownSubjects {
  /** By scope and subject, and by tag; the oldest first. */
  #byName = new Map<string, Map<string, KnownSubject>>()
  #byTag = new Map<string, KnownSubject>()
  /** Names besides addresses that may be blocked, and whether these are all. */
  #suspects = new Set<string>()
  #knowsSuspects = false
  /** One was left out, so they are not all. */
  #isOverfull = false

  constructor(private readonly forgotten: (subject: KnownSubject) => void) {}

  /** The subject, as unknown if it is new. */
  get({ scope, subject }: CounterKey): KnownSubject {
    let subjects = this.#byName.get(scope)
    if (!subjects) {
      subjects = new Map()
      this.#byName.set(scope, subjects)
    }
    let known = subjects.get(subject)
    if (known) return known
    const tag = tagOf(scope, subject)
    // Two names may have one tag, as letters of both cases do: what is heard is for both.
    known = this.#byTag.get(tag)
    if (!known) {
      if (this.#byTag.size >= CAPACITY) this.#drop(this.#byTag.values().next().value!)
      known = { scope, subject, tag, isClear: false, asking: undefined, budgets: new Map() }
      this.#byTag.set(tag, known)
      subjects.set(subject, known)
    }
    return known
  }

  find(tag: string): KnownSubject | undefined {
    return this.#byTag.get(tag)
  }

  #drop(known: KnownSubject): void {
    this.#byTag.delete(known.tag)
    this.#byName.get(known.scope)?.delete(known.subject)
    forget(known)
    this.forgotten(known)
  }

  /** True where nobody can have blocked it. */
  isClear({ isClear, tag }: KnownSubject): boolean {
    return isClear || (this.#knowsSuspects && !isAddress(tag) && !this.#suspects.has(tag))
  }

  /** All names besides addresses that may be blocked now, by their tags; `changed` tells of each that comes later. */
  knowBlocks(tags: string[]): void {
    for (const tag of tags) this.#suspects.add(tag)
    this.#knowsSuspects = !this.#isOverfull && this.#suspects.size <= SUSPECTS
  }

  /** A block of it may have come or gone. */
  changed(tag: string): void {
    if (!isAddress(tag)) this.#suspect(tag)
    const known = this.#byTag.get(tag)
    if (known) forget(known)
  }

  #suspect(tag: string): void {
    if (this.#suspects.size < SUSPECTS) {
      this.#suspects.add(tag)
      return
    }
    this.#isOverfull = true
    this.#knowsSuspects = false
  }

  /** The store is asked about it. */
  ask(known: KnownSubject): Asking {
    known.asking ??= { users: 0, isStale: false, isRecalled: false }
    known.asking.users++
    return known.asking
  }

  /** The store has answered. `isBlocked` undefined: it has not said. */
  answered(known: KnownSubject, asking: Asking, isBlocked: boolean | undefined): void {
    asking.users--
    if (asking.users === 0 && known.asking === asking) known.asking = undefined
    if (asking.isStale || isBlocked === undefined) return
    known.isClear = !isBlocked
    if (!isBlocked) this.#suspects.delete(known.tag)
  }

  /** Forgets everything. */
  clear(): void {
    this.#suspects.clear()
    this.#knowsSuspects = false
    this.#isOverfull = false
    for (const known of this.#byTag.values()) this.#drop(known)
  }
}

/** Answers that are on their way count for nothing. */
function forget(known: KnownSubject): void {
  known.isClear = false
  if (known.asking) known.asking.isStale = true
  known.asking = undefined
}
