// A list file: one entry a line, comments behind '#' or ';'. Errors are collected with their line numbers.
import { entryOf, linesOf } from '../lines'
import type { CooperativeTask } from '../time-slices'

/** Takes one entry. What it throws becomes an error of that line. */
export type OnEntry = (line: number, entry: string) => void

const ERRORS_SHOWN = 20
const LINES_A_STEP = 1000

/** Reads the text: `onEntry` for each entry. Returns the errors, `line 7: …`, at most 20 and then `and 3 more`; none is []. */
export function* entries(text: Buffer | string, onEntry: OnEntry): CooperativeTask<string[]> {
  const errors: string[] = []
  let more = 0
  let line = 0
  for (const raw of linesOf(text)) {
    const entry = entryOf(raw)
    line++
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
