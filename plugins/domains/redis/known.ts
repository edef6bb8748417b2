// What this worker knows of the domains in Redis. A domain that was found is kept as long as Redis does not say
// otherwise; that a name is none of ours counts for some seconds only.
import { Lru } from '../../../core/limiter/lru'
import { CANNOT_TELL, type Domain, type Found, type MoreDomains, type NoneLasts } from '../table'
import { type Hash, type HashReading, printHashErrors, type ReadHash } from './hash'

/** After so long, ms, a name is asked about again. */
const ASK_AGAIN = 4000
/** For so long, ms, from the question on, a name is none of ours. Longer than ASK_AGAIN: a hook that has asked can decide. */
const NOT_OURS_FOR = 5000
/** The same for senders: while Redis is away, those who wrote within the last hour go on writing. */
const NO_SENDER_FOR = 3_600_000
/** Names of each kind. A flood of made-up domains displaces other made-up domains. */
const CAPACITY = 10_000

/** What Redis said of a name: its hash, `no hash` where the key is of another type, or `none` where there is no key. */
export type DomainAnswer = Readonly<Record<string, string>> | 'no hash' | 'none'

interface Known {
  answer: Exclude<DomainAnswer, 'none'>
  askedAt: number
  /** The answer, as a configuration reads it: `tls_ca` and the listeners may change. */
  read?: HashReading & { by: ReadHash }
}

/** A clock in ms that is never set, and where a domain that cannot be read is told of. */
export interface KnownDomainsOptions {
  now?: () => number
  log(line: string): void
  capacity?: number
}

/** Answers of Redis, bounded. */
export class KnownDomains {
  readonly #found: Lru<Known>
  /** When each was asked about. */
  readonly #none: Lru<number>
  readonly #now: () => number

  constructor(private readonly options: KnownDomainsOptions) {
    const { now = () => performance.now(), capacity = CAPACITY } = options
    this.#now = now
    this.#found = new Lru(capacity, () => false)
    this.#none = new Lru(capacity, (askedAt, at) => at - askedAt >= NO_SENDER_FOR)
  }

  /** The number of names that are kept. */
  get size(): number {
    return this.#found.size + this.#none.size
  }

  /** True where the name need not be asked about now. */
  isFresh(name: string): boolean {
    const now = this.#now()
    const askedAt = this.#found.get(name, now)?.askedAt ?? this.#none.get(name, now)
    return askedAt !== undefined && now - askedAt < ASK_AGAIN
  }

  /** Keeps an answer. `askedAt`: when the question was sent; a later answer goes before an earlier one. */
  learn(name: string, answer: DomainAnswer, askedAt: number): void {
    const now = this.#now()
    const before = this.#found.get(name, now)
    const known = before?.askedAt ?? this.#none.get(name, now)
    if (known !== undefined && known > askedAt) return
    if (answer === 'none') {
      this.#found.delete(name)
      this.#none.set(name, askedAt, now)
      return
    }
    this.#none.delete(name)
    // What did not change stays the same Domain, so that what was decided by it holds.
    const isSame = before && isEqual(before.answer, answer)
    this.#found.set(name, isSame ? Object.assign(before, { askedAt }) : { answer, askedAt }, now)
  }

  /** What is known, as a configuration reads it. */
  readBy(read: ReadHash): MoreDomains {
    return { get: (name, below, lasts) => this.#get(name, below, lasts, read) }
  }

  #get(name: string, below: boolean, lasts: NoneLasts, read: ReadHash): Found {
    const now = this.#now()
    const known = this.#found.get(name, now)
    if (!known) {
      const age = now - (this.#none.get(name, now) ?? Number.NEGATIVE_INFINITY)
      return age < (lasts === 'an hour' ? NO_SENDER_FOR : NOT_OURS_FOR) ? undefined : CANNOT_TELL
    }
    if (known.read?.by !== read) known.read = { ...this.#read(name, known, read), by: read }
    const { domain, concernsBelow } = known.read
    if (domain) return domain
    return below && !concernsBelow ? undefined : CANNOT_TELL
  }

  #read(name: string, { answer }: Known, read: ReadHash): HashReading {
    const hash: Hash = answer === 'no hash' ? undefined : answer
    const reading = read(name, hash)
    if (!reading.domain)
      this.options.log(`${printHashErrors(reading.errors)}; mail for it gets 451 until this is mended`)
    return reading
  }
}

function isEqual(one: Known['answer'], other: Known['answer']): boolean {
  if (one === 'no hash' || other === 'no hash') return one === other
  const fields = Object.keys(one)
  return (
    fields.length === Object.keys(other).length &&
    fields.every((field) => Object.hasOwn(other, field) && one[field] === other[field])
  )
}

/** For a configuration that reads domains in Redis where none can be asked about. */
export const NOTHING_KNOWN: MoreDomains = { get: (): Domain | typeof CANNOT_TELL => CANNOT_TELL }
