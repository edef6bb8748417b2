// Counts how much of arrays is looked at, so that a test tells linear from quadratic work without a clock.

/** Methods that may look at all elements. */
const METHODS = [
  'concat',
  'every',
  'filter',
  'find',
  'findIndex',
  'findLast',
  'flatMap',
  'forEach',
  'includes',
  'indexOf',
  'join',
  'map',
  'reduce',
  'shift',
  'slice',
  'some',
  'splice',
  'unshift',
] as const

/** Returns how many elements of arrays were offered to array methods in this process while `act` ran. */
export async function arrayWork(act: () => unknown): Promise<number> {
  let elements = 0
  const prototype = Array.prototype as unknown as Record<string, (...given: unknown[]) => unknown>
  const own = METHODS.map((name) => [name, prototype[name]!] as const)
  for (const [name, method] of own)
    prototype[name] = function (this: unknown[], ...given) {
      elements += this.length
      return method.apply(this, given)
    }
  try {
    await act()
  } finally {
    for (const [name, method] of own) prototype[name] = method
  }
  return elements
}
