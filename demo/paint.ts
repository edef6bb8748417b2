// What a terminal shows: lines of a bounded width, and colours where it is one.

/** Columns that the output may take. */
export const WIDTH = 100
const on = Boolean(process.stdout.isTTY) && !process.env['NO_COLOR']

const paint = (code: number) => (text: string) => (on ? `\x1b[${code}m${text}\x1b[0m` : text)

export const bold = paint(1)
export const dim = paint(2)
export const red = paint(31)
export const green = paint(32)
export const yellow = paint(33)

/** Red for a refusal, yellow for a 4xx, green for the rest. */
export const byReply = (reply: string) =>
  reply.startsWith('5') ? red : reply.startsWith('4') ? yellow : green

/** Breaks a text between words, so that no line is wider than WIDTH; all but the first begin with `indent`. */
export function wrapped(text: string, indent: string, first = indent.length): string {
  const lines = ['']
  let room = WIDTH - first
  for (const word of text.split(' ')) {
    const line = lines.at(-1)!
    if (line && line.length + 1 + word.length > room) {
      lines.push(word)
      room = WIDTH - indent.length
    } else lines[lines.length - 1] = line ? `${line} ${word}` : word
  }
  return lines.join(`\n${indent}`)
}
