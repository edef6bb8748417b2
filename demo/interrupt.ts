// Ctrl-C ends the demo in order, so that nothing of it stays: not a server, not a file.

let interrupted = false

/** Call first. Ctrl-C reaches npm and Haraka by itself; whatever waits for one of them then ends. */
export function endOnSignals(): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      interrupted = true
    })
  }
}

export const isInterrupted = (): boolean => interrupted
