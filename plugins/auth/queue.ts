// Who waits for a password check: the work is heavy, so few run at once, and the rest take turns.

interface Waiting {
  begin(): void
}

/** Groups of those who wait, in the order of their turns. */
type Turns = Map<string, Set<Waiting>>

/**
 * Runs a few tasks at once. Who waits is served by turns, one of each group (a network), so that a flood from one does
 * not keep another waiting; those who come first by right are served before all others.
 */
export class FairQueue {
  #running = 0
  #preferred: Turns = new Map()
  #others: Turns = new Map()

  constructor(private readonly atOnce: number) {}

  /** How many wait. */
  get waiting(): number {
    return [...this.#preferred.values(), ...this.#others.values()].reduce((sum, { size }) => sum + size, 0)
  }

  /** The task's outcome. Rejects with the signal's reason, and the task never begins, if that aborts while it waits. */
  async run<T>(
    { group, preferred, signal }: { group: string; preferred: boolean; signal: AbortSignal },
    task: () => Promise<T>,
  ): Promise<T> {
    signal.throwIfAborted()
    if (this.#running < this.atOnce) this.#running++
    else await this.#turn(preferred ? this.#preferred : this.#others, group, signal)
    try {
      return await task()
    } finally {
      this.#next()
    }
  }

  /** Resolves when a task that has ended hands its place on. */
  #turn(turns: Turns, group: string, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        remove(turns, group, waiting)
        reject(signal.reason as Error)
      }
      const waiting: Waiting = {
        begin() {
          signal.removeEventListener('abort', leave)
          resolve()
        },
      }
      const members = turns.get(group)
      if (members) members.add(waiting)
      else turns.set(group, new Set([waiting]))
      signal.addEventListener('abort', leave, { once: true })
    })
  }

  #next(): void {
    const waiting = takeTurn(this.#preferred) ?? takeTurn(this.#others)
    if (waiting) waiting.begin()
    else this.#running--
  }
}

/** The first one of the group whose turn it is, which then goes to the end. */
function takeTurn(turns: Turns): Waiting | undefined {
  for (const [group, members] of turns) {
    const [first] = members
    if (!first) continue
    turns.delete(group)
    members.delete(first)
    if (members.size > 0) turns.set(group, members)
    return first
  }
  return undefined
}

function remove(turns: Turns, group: string, waiting: Waiting): void {
  const members = turns.get(group)
  members?.delete(waiting)
  if (members?.size === 0) turns.delete(group)
}
