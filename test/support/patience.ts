// How long a test waits for what must come. Nothing is measured by it: it only ends a test that would wait for ever, so it is
// much longer than anything takes on a machine with too much to do.
import { setTimeout as sleep } from 'node:timers/promises'

/** ms. */
export const PATIENCE = 90_000

/** Waits until `check` is true. Throws after `ms`, by a clock that nobody sets. */
export async function until(
  check: () => boolean | Promise<boolean>,
  what: string | (() => string) = `${check}`,
  ms = PATIENCE,
): Promise<void> {
  const end = performance.now() + ms
  while (!(await check())) {
    if (performance.now() > end)
      throw new Error(`not within ${ms} ms: ${typeof what === 'string' ? what : what()}`)
    await sleep(10)
  }
}
