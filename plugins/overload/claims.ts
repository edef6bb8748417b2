// What the messages that are coming in now are about to write: it is free still, and yet taken.
import type { Transaction } from '../../core/haraka/types'

/** Bytes of the file system of the queue and of the spool, and files of the queue. */
export interface Sums {
  queue: number
  spool: number
  files: number
}

export const NOTHING: Sums = { queue: 0, spool: 0, files: 0 }

export const plus = (a: Sums, b: Sums): Sums => ({
  queue: a.queue + b.queue,
  spool: a.spool + b.spool,
  files: a.files + b.files,
})

export const minus = (a: Sums, b: Sums): Sums => ({
  queue: a.queue - b.queue,
  spool: a.spool - b.spool,
  files: a.files - b.files,
})

/** What a queue file takes beside the message: the envelope, and the rest of its last block. */
const PER_FILE = 8192

interface Claim {
  /** SIZE, as the client announced it; 0: none. */
  announced: number
  /** Files that are being written to the queue. */
  files: number
}

/** The claims of one worker. */
export class Claims {
  #open = new Map<Transaction, Claim>()
  #written: { at: number; sums: Sums }[] = []

  /** `spoolAfter`: bytes from which on Haraka spools a message. */
  constructor(readonly spoolAfter: number) {}

  /** A message is about to come. `size`: as announced, or 0. */
  announce(transaction: Transaction, size: number): void {
    this.#open.set(transaction, { announced: size, files: 0 })
  }

  /** The message is whole, and so many queue files of it are about to be written. Returns what they take. */
  queue(transaction: Transaction, files: number): Sums {
    this.#open.set(transaction, { announced: 0, files })
    return this.of(transaction)
  }

  /** How many queue files it may write; 0 before it is whole. */
  filesOf(transaction: Transaction): number {
    return this.#open.get(transaction)?.files ?? 0
  }

  /** The transaction has ended. What it wrote counts until a sample has seen it. `now`: ms, as in `settle`. */
  end(transaction: Transaction, now: number): void {
    const claim = this.#open.get(transaction)
    this.#open.delete(transaction)
    if (claim && claim.files > 0)
      this.#written.push({ at: now, sums: this.#add({ ...NOTHING }, transaction, claim) })
  }

  /** A sample that was asked for at `at` is there: what was written before is no longer free in it. */
  settle(at: number): void {
    this.#written = this.#written.filter((one) => one.at >= at)
  }

  /** Messages that are being spooled and have become larger than they were announced, if they were. */
  get growing(): Transaction[] {
    return [...this.#open].flatMap(([transaction, { announced, files }]) => {
      const { data_bytes, message_stream } = transaction
      return files === 0 && message_stream.spooling && data_bytes > announced ? [transaction] : []
    })
  }

  /** Of all messages, and of one alone. */
  get all(): Sums {
    // In place: this is asked at each MAIL, of as many messages as are coming in.
    const all = { ...NOTHING }
    for (const [transaction, claim] of this.#open) this.#add(all, transaction, claim)
    for (const { sums } of this.#written) {
      all.queue += sums.queue
      all.spool += sums.spool
      all.files += sums.files
    }
    return all
  }

  of(transaction: Transaction): Sums {
    const claim = this.#open.get(transaction)
    return claim ? this.#add({ ...NOTHING }, transaction, claim) : NOTHING
  }

  #add(sums: Sums, { data_bytes }: Transaction, { announced, files }: Claim): Sums {
    const size = Math.max(announced, data_bytes)
    const copies = Math.max(files, 1)
    sums.queue += copies * (size + PER_FILE)
    if (size > this.spoolAfter) sums.spool += size - data_bytes
    sums.files += copies
    return sums
  }
}
