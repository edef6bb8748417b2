// Who was refused, and until when. Bounded: the oldest are forgotten first.

/** All entries of one subject: addresses of one network, or one address that came to several of ours. */
interface Subject {
  tag: string
  entries: number
  forgotten: boolean
}

interface Entry<V> {
  value: V
  subject: Subject
  /** ms of the clock. */
  until: number
}

/** A value by name until its time is over, or until its subject is forgotten. */
export class RefusalMemory<V> {
  /** Entries of forgotten subjects are among them until they are looked for, or the oldest. */
  #entries = new Map<string, Entry<V>>()
  /** At the oldest: seen from its start, a map that is deleted from there is all gaps. */
  #oldest: IterableIterator<string> | undefined
  /** Those that are not forgotten, by tag. */
  #subjects = new Map<string, Subject>()

  /** `now`: ms of a monotonic clock. */
  constructor(
    private readonly capacity: number,
    private readonly now: () => number,
  ) {}

  /** How many entries and subjects are in memory. */
  get size(): { entries: number; subjects: number } {
    return { entries: this.#entries.size, subjects: this.#subjects.size }
  }

  /** Remembers for so long (ms). */
  set(name: string, tag: string, value: V, ms: number): void {
    this.#delete(name)
    if (this.#entries.size >= this.capacity) this.#deleteOldest()
    const subject = this.#subjects.get(tag) ?? { tag, entries: 0, forgotten: false }
    subject.entries++
    this.#subjects.set(tag, subject)
    this.#entries.set(name, { value, subject, until: this.now() + ms })
  }

  /** Undefined where nothing is remembered. */
  get(name: string): V | undefined {
    const entry = this.#entries.get(name)
    if (!entry) return undefined
    if (entry.until > this.now() && !entry.subject.forgotten) return entry.value
    this.#delete(name)
    return undefined
  }

  /** Forgets all of one subject, however many entries it has. */
  forget(tag: string): void {
    const subject = this.#subjects.get(tag)
    if (!subject) return
    subject.forgotten = true
    this.#subjects.delete(tag)
  }

  /** Forgets everything. */
  clear(): void {
    this.#entries.clear()
    this.#subjects.clear()
    this.#oldest = undefined
  }

  #delete(name: string): void {
    const subject = this.#entries.get(name)?.subject
    if (!subject) return
    this.#entries.delete(name)
    subject.entries--
    if (subject.entries === 0 && !subject.forgotten) this.#subjects.delete(subject.tag)
  }

  #deleteOldest(): void {
    this.#oldest ??= this.#entries.keys()
    this.#delete(this.#oldest.next().value ?? '')
  }
}
