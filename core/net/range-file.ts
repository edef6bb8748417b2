// A list file: one entry a line, comments behind '#' or ';'. Errors are collected with their line numbers.
import type { CooperativeTask } from '../time-slices'

/** Takes one entry. What it throws becomes an error of that line. */
export type OnEntry = (line: number, entry: string) => void

const ERRORS_SHOWN = 20
const LINES_A_STEP = 1000
const NEWLINE = 10

/** trim() takes a byte order mark and the CR of CRLF away, too. */
const entryOf = (line: string): string => {
  const comment = line.search(/[#;]/)
  return (comment < 0 ? line : line.slice(0, comment)).trim()
}

/** Reads the text: `onEntry` for each entry. Returns the errors, `line 7: …`, at most 20 and then `and 3 more`; none is []. */
export function* entries(text: Buffer | string, onEntry: OnEntry): CooperativeTask<string[]> {
  const bytes = typeof text === 'string' ? Buffer.from(text) : text
  const errors: string[] = []
  let more = 0
  let at = 0
  for (let line = 1; at < bytes.length; line++) {
    const newline = bytes.indexOf(NEWLINE, at)
    const end = newline < 0 ? bytes.length : newline
    const entry = entryOf(bytes.toString('utf8', at, end))
    at = end + 1
    if (line % LINES_A_STEP === 0) yield
    if (!entry) continue
    try {
      onEntry(line, entry)
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      if (errors.length < ERRORS_SHOWN) errors.push(`line ${line}: ${reason}`)
      else more++
    }
  }
  return more ? [...errors, `and ${more} more`] : errors
}
