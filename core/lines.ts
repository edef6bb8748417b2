// Lines of text files, for every reader of ours the same: LF, CRLF and CR each end one.

const LF = 10
const CR = 13

/** The lines, without their ends, each decoded when it is asked for: a list may be large. Behind the last end is no line. */
export function* linesOf(text: Buffer | string): Generator<string, void, void> {
  const bytes = typeof text === 'string' ? Buffer.from(text) : text
  const find = (byte: number, from: number) => {
    const found = bytes.indexOf(byte, from)
    return found < 0 ? bytes.length : found
  }
  let lf = find(LF, 0)
  let cr = find(CR, 0)
  for (let at = 0; at < bytes.length; ) {
    if (lf < at) lf = find(LF, at)
    if (cr < at) cr = find(CR, at)
    const end = Math.min(lf, cr)
    yield bytes.toString('utf8', at, end)
    at = lf === cr + 1 ? lf + 1 : end + 1
  }
}

/** What a line of a list says: without its comment, behind `#` or `;`, and white space. A byte order mark is some, too. */
export function entryOf(line: string): string {
  const comment = line.search(/[#;]/)
  return (comment < 0 ? line : line.slice(0, comment)).trim()
}
