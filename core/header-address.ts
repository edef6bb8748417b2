// The addresses of a header field, by the parser of the running Haraka: @haraka/email-address. With a copy of our own,
// which asks for Node.js 22, this package could not be installed on 20 under `engine-strict`.

/** One address of a header field, as @haraka/email-address gives it. */
export interface HeaderAddress {
  user?: string
  host?: string
}

/** Takes the value of a header field. Throws where it cannot be parsed. */
export type HeaderParser = (
  value: string,
  options: { startAt: 'from'; allowAtInDisplayName: boolean },
) => (HeaderAddress | { addresses: HeaderAddress[] })[]

let parser: HeaderParser | undefined

/** Called once, at the start. */
export function setHeaderParser(given: HeaderParser): void {
  parser = given
}

/** The mailboxes and groups of a header field's value (RFC 5322 3.4). Throws where it cannot be parsed. */
export const parseHeader: HeaderParser = (value, options) => {
  if (!parser) throw new Error('no parser for header fields was set')
  return parser(value, options)
}
