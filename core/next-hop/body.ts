// The message on its way out: dots stuffed, lines ended, the final dot (RFC 5321 4.5.2).
import { Writable } from 'node:stream'

const LF = 10
const CR = 13
const DOT = 46
const dot = Buffer.from('.')
const cr = Buffer.from('\r')
const crlf = Buffer.from('\r\n')
/** So short a piece (octets) fits into the socket's buffer with the final dot: two writes would tell no more of a failure. */
const ONE_PIECE = 16 * 1024

const finalDot = Buffer.from('.\r\n')
const finalDotAfterLine = Buffer.from('\r\n.\r\n')

type Write = (data: Buffer, done: (error?: Error | null) => void) => void

/**
 * Takes a message as it is, unstuffed; the final dot is written when it is ended, and only then. One piece is on its
 * way at a time, so at most that and `writableHighWaterMark` octets are held here.
 * A CR or LF alone leaves as CRLF: what one server takes for a line's end another may not, and a message hides there.
 */
export class Body extends Writable {
  /** The final dot is on its way: from here on the message may have been delivered. */
  dotted = false
  #last = LF
  /** A CR that ended the piece before: what follows says whether it is alone. */
  #heldCr = false
  #ended = false
  #write: Write

  constructor(write: Write) {
    super({ highWaterMark: 256 * 1024, decodeStrings: true })
    this.#write = write
    // A small message comes in pieces, all within this turn of the event loop: let it leave in one.
    this.cork()
    setImmediate(() => this.uncork())
  }

  /** Writable.end lets go of what was held back before it notes that the end has come. */
  override end(chunk?: unknown, encoding?: unknown, done?: unknown): this {
    this.#ended = true
    return super.end(chunk, encoding as BufferEncoding, done as () => void)
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void) {
    this.#write(Buffer.concat(this.#stuff(chunk)), done)
  }

  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void) {
    // Core gives each line by itself.
    const parts = this.#stuff(Buffer.concat(chunks.map(({ chunk }) => chunk)))
    const length = parts.reduce((sum, part) => sum + part.length, 0)
    // The end has come, too: the final dot need not be a packet of its own.
    if (this.#ended && length <= ONE_PIECE) parts.push(this.#finalDot())
    this.#write(Buffer.concat(parts), done)
  }

  override _final(done: (error?: Error | null) => void) {
    if (this.dotted) done()
    else this.#write(this.#finalDot(), done)
  }

  #finalDot(): Buffer {
    this.dotted = true
    return this.#last === LF && !this.#heldCr ? finalDot : finalDotAfterLine
  }

  #stuff(piece: Buffer): Buffer[] {
    const chunk = this.#endLines(piece)
    const parts: Buffer[] = []
    let from = 0
    if (this.#last === LF && chunk[0] === DOT) parts.push(dot)
    for (let at = chunk.indexOf(LF); at >= 0; at = chunk.indexOf(LF, at + 1)) {
      const before = at > 0 ? chunk[at - 1] : this.#last
      if (before !== CR) {
        parts.push(chunk.subarray(from, at), crlf)
        from = at + 1
      }
      if (chunk[at + 1] !== DOT) continue
      parts.push(chunk.subarray(from, at + 1), dot)
      from = at + 1
    }
    parts.push(chunk.subarray(from))
    this.#last = chunk.at(-1) ?? this.#last
    return parts
  }

  /** Every CR is followed by LF in what this returns. */
  #endLines(piece: Buffer): Buffer {
    const whole = this.#heldCr ? Buffer.concat([cr, piece]) : piece
    this.#heldCr = whole.at(-1) === CR
    const chunk = this.#heldCr ? whole.subarray(0, -1) : whole
    const parts: Buffer[] = []
    let from = 0
    for (let at = chunk.indexOf(CR); at >= 0; at = chunk.indexOf(CR, at + 1)) {
      if (chunk[at + 1] === LF) continue
      parts.push(chunk.subarray(from, at), crlf)
      from = at + 1
    }
    return from === 0 ? chunk : Buffer.concat([...parts, chunk.subarray(from)])
  }
}
