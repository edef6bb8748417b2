// Errors at the start: all of them are said, one a line, and then Haraka does not start.
import type { Host } from './host'
import { type ConfigError, printConfigError } from './parse'

/** Ends the start with one line in the log: Haraka prints an error's stack, which helps nobody here. */
export class StartError extends Error {
  override stack = this.message
}

let refused = 0

/** Logs the errors of a file, and remembers that there were some. */
export function refuseStart(host: Host, errors: ConfigError[]): void {
  refused += errors.length
  for (const error of errors) host.logcrit(printConfigError(error))
}

/**
 * Ends a plugin's `register`: stops Haraka where a file has errors, but only at the last of our lines in
 * config/plugins, so that the errors of all files are seen at once. Throws Error, without a stack: Haraka prints it.
 */
export function failStartOnErrors(host: Host): void {
  if (refused === 0) return
  const lines = (host.config.get('plugins', 'list') as string[] | undefined) ?? []
  const ours = lines
    .map((line) => line.replace(/^haraka-plugin-/, ''))
    .filter((line) => line.startsWith('relay-guard/'))
  if (ours.includes(host.name) && ours.at(-1) !== host.name) return
  throw new StartError(`config/relay-guard has errors (${refused}), listed above; Haraka does not start`)
}
