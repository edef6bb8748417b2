// Tells when Haraka or another plugin writes a property whose change no hook reports.

/**
 * Calls `changed` at each write to a property from now on, after the write. `delete` takes the watch away again, so
 * whoever watches a note that Haraka deletes must ask anew; asking twice does nothing.
 */
export function watchProperty<T extends object, K extends keyof T>(
  of: T,
  name: K,
  changed: (before: T[K], now: T[K]) => void,
): void {
  if (Object.getOwnPropertyDescriptor(of, name)?.set) return
  let value = of[name]
  Object.defineProperty(of, name, {
    configurable: true,
    enumerable: true,
    get: () => value,
    set: (now: T[K]) => {
      const before = value
      value = now
      changed(before, now)
    },
  })
}
