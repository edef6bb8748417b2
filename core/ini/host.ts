// What this room needs of the plugin that reads a file. Haraka's own Plugin is one.

type Log = (...parts: unknown[]) => void

/** A plugin as the readers of ini files see it: its name, its log, and Haraka's own configuration. */
export interface Host {
  name: string
  /** Haraka's reader: `smtp.ini` says how many workers there are, `plugins` which lines of ours are loaded. */
  config: { get(name: string, ...rest: unknown[]): unknown }
  lognotice: Log
  logerror: Log
  logcrit: Log
}

/** True where this Haraka forks workers: without `nodes` one, and none where it is 0 or empty. */
export function hasWorkers({ config }: Host): boolean {
  const smtp = config.get('smtp.ini') as { main?: { nodes?: unknown } } | undefined
  return Boolean(smtp?.main?.nodes ?? 1)
}
