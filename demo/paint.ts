// Colours, on a terminal only.
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
