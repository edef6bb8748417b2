/** How a verb was called. */
export interface Call {
  /** Haraka's directory. */
  dir: string
  json: boolean
  /** What stands after the verb. */
  words: string[]
  /** Writes one line to standard output. */
  print(line: string): void
}
