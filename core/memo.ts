/** Results for longer texts are not kept: a stranger's name may have 64 KB. */
const LONGEST = 255

/** Caches a pure function's results for up to `capacity` texts; when one more comes, all are forgotten. */
export function memo<V>(make: (text: string) => V, capacity = 4096): (text: string) => V {
  const known = new Map<string, V>()
  return (text) => {
    const before = known.get(text)
    if (before !== undefined || text.length > LONGEST) return before ?? make(text)
    if (known.size >= capacity) known.clear()
    const made = make(text)
    known.set(text, made)
    return made
  }
}
