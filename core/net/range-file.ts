// A file of entries, one a line, '#' or ';' comments: read line by line, mistakes collected with their line numbers.
import { runAtOnce, runInSlices, type Work } from '../time-slices'

/** Takes one entry. What it throws becomes a mistake of that line. */
export type OnEntry = (line: number, entry: string) => void

const MISTAKES_SHOWN = 20
const LINES_A_STEP = 1000
const NEWLINE = 10

/** trim() takes a byte order mark and the CR of CRLF away, too. */
const entryOf = (line: string): string => {
  const comment = line.search(/[#;]/)
  return (comment < 0 ? line : line.slice(0, comment)).trim()
}

/** The work of reading: `onEntry` for each entry, then the mistakes. */
export function* entries(text: Buffer | string, onEntry: OnEntry): Work<string[]> {
  const bytes = typeof text === 'string' ? Buffer.from(text) : text
  const mistakes: string[] = []
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
      if (mistakes.length < MISTAKES_SHOWN) mistakes.push(`line ${line}: ${reason}`)
      else more++
    }
  }
  return more ? [...mistakes, `and ${more} more`] : mistakes
}

/** Reads the whole text at once. Returns the mistakes, `line 7: …`, at most 20 and then `and 3 more`; none is []. */
export const readEntries = (text: Buffer | string, onEntry: OnEntry): string[] =>
  runAtOnce(entries(text, onEntry))

/** The same, while the event loop goes on. */
export const readEntriesInSlices = (text: Buffer | string, onEntry: OnEntry): Promise<string[]> =>
  runInSlices(entries(text, onEntry))
