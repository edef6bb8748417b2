// Tells when Haraka or another plugin writes a property for which there is no hook.

/** Puts an accessor in the place of a property, which `delete` takes away again; so it is put there at each AUTH. */
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
