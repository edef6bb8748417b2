// A bounded map: what was not touched for longest goes first, and what has expired goes as others come.

/** A map of at most `capacity` entries. */
export class Lru<V> {
  #map = new Map<string, V>()
  #hand = this.#map.entries()

  constructor(
    readonly capacity: number,
    /** True for what may go at any time. */
    private readonly expired: (value: V, now: number) => boolean,
  ) {}

  get size(): number {
    return this.#map.size
  }

  get(key: string, now: number): V | undefined {
    const value = this.#map.get(key)
    if (value === undefined || !this.expired(value, now)) return value
    this.#map.delete(key)
    return undefined
  }

  /** Sets, and so touches, an entry. */
  set(key: string, value: V, now: number): void {
    this.#map.delete(key)
    this.#map.set(key, value)
    this.#sweep(now)
    if (this.#map.size > this.capacity) this.#map.delete(this.#map.keys().next().value!)
  }

  delete(key: string): void {
    this.#map.delete(key)
  }

  clear(): void {
    this.#map.clear()
  }

  keys(): IterableIterator<string> {
    return this.#map.keys()
  }

  /** Looks at two entries each time, so that the dead never outnumber the living for long. */
  #sweep(now: number): void {
    for (let i = 0; i < 2; i++) {
      const { value, done } = this.#hand.next()
      if (done) this.#hand = this.#map.entries()
      else if (this.expired(value[1], now)) this.#map.delete(value[0])
    }
  }
}
