// Text that is safe to print: for replies, logs and errors that repeat what a client or a file said.

/**
 * Something written by an operator is not what it should be. `message` may repeat it; `problem` says the same and
 * repeats nothing of it, for files that can hold passwords.
 */
export class ValueError extends Error {
  constructor(
    readonly problem: string,
    written?: string,
  ) {
    super(written === undefined ? problem : `"${written}" ${problem}`)
  }
}

/** Characters that could end a line, or hide or reverse text in a terminal or a log. */
const UNSAFE =
  /[^\x20-\x7e\u00a0-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd]+|[\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]+/g

/** Replaces unsafe characters by spaces, and cuts to `length` octets: an SMTP reply line has at most 512 (RFC 5321 4.5.3.1.5). */
export function clean(text: string, length = 400): string {
  // Most text is plain: then nothing is copied.
  if (text.length <= length && /^[\x20-\x7e]*$/.test(text)) return text
  const safe = text.slice(0, 4 * length).replace(UNSAFE, ' ')
  const octets = Buffer.from(safe)
  return octets.length <= length
    ? safe
    : octets
        .subarray(0, length)
        .toString()
        .replace(/\ufffd+$/, '')
}
