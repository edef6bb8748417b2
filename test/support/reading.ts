// Texts in place of files, for the readers that the server and the command use.

import { printConfigError } from '../../core/ini/parse'
import { type Reading, readingOf } from '../../core/ini/reading'
import { harakaPath } from '../../core/paths'

export interface Read<T> {
  value: T
  /** As the operator sees them. */
  errors: string[]
}

/** Runs a reader on the text of an ini file. `others`: files that it may open, by path; all else cannot be read. */
export function readText<T>(
  name: string,
  text: string,
  reader: (reading: Reading) => T,
  others: Record<string, string> = {},
): Read<T> {
  const files = new Map([[name, Buffer.from(text)]])
  for (const [path, content] of Object.entries(others)) files.set(harakaPath(path), Buffer.from(content))
  const reading = readingOf(name, name, files, { frozen: true })
  const value = reader(reading)
  return { value, errors: reading.errors.map(printConfigError) }
}
