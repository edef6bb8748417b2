// The addresses of a Cluster's seeds. ioredis gives up all of them where one name has none.
import { lookup } from 'node:dns'

/** A name whose address does not come within this long (ms) has none. */
const PATIENCE = 1000

/** Looks up names for one Cluster, anew each time that it connects. */
export class SeedLookup {
  #failures = new Map<string, string>()

  /** For ioredis. A name without an address stands for itself, and is so a node that cannot be reached, as a dead one is. */
  readonly lookup = (name: string, done: (error: null, address: string) => void): void => {
    let isTold = false
    const tell = (failure: string | undefined, address: string) => {
      clearTimeout(timer)
      if (isTold) return
      isTold = true
      if (failure === undefined) this.#failures.delete(name)
      else this.#failures.set(name, failure)
      done(null, address)
    }
    const timer = setTimeout(tell, PATIENCE, `no address of ${name} within ${PATIENCE} ms`, name)
    lookup(name, (error, address) => tell(error?.message, error ? name : address))
  }

  /** Why names have no address, each in the words of the system, as `getaddrinfo ENOTFOUND redis1.example`. */
  get failures(): string[] {
    return [...this.#failures.values()]
  }
}
