// Ranges of one address family as a structure of typed arrays: a million objects would take ten times the memory, and
// long pauses of the garbage collector.

import type { CooperativeTask } from '../time-slices'
import type { Range } from './range'

/** `words` 32-bit words an address, most significant first. */
export interface Ranges {
  words: number
  count: number
  first: Uint32Array
  last: Uint32Array
  /** last - first: the range's size, less one so that it fits. */
  span: Uint32Array
  value: Int32Array
}

const FIRST_BLOCK = 16
const LARGEST_BLOCK = 16_384

const emptyRanges = (words: number, room: number): Ranges => ({
  words,
  count: 0,
  first: new Uint32Array(room * words),
  last: new Uint32Array(room * words),
  span: new Uint32Array(room * words),
  value: new Int32Array(room),
})

function append(ranges: Ranges, range: Range, number: number) {
  const { words, count, first, last, span, value } = ranges
  let borrow = 0
  for (let word = words - 1; word >= 0; word--) {
    const from = range.first[word]!
    const to = range.last[word]!
    const at = count * words + word
    first[at] = from
    last[at] = to
    span[at] = to - from - borrow
    borrow = to - from - borrow < 0 ? 1 : 0
  }
  value[count] = number
  ranges.count++
}

/** Collects ranges in blocks: growing one large array would block the event loop for 100 ms. */
export class RangeCollector {
  private blocks: Ranges[] = []
  private count = 0

  constructor(private readonly words: number) {}

  add(range: Range, value: number) {
    let block = this.blocks.at(-1)
    if (!block || block.count === block.value.length) {
      const room = block ? Math.min(block.value.length * 2, LARGEST_BLOCK) : FIRST_BLOCK
      block = emptyRanges(this.words, room)
      this.blocks.push(block)
    }
    append(block, range, value)
    this.count++
  }

  /** All ranges in one piece. */
  *gather(): CooperativeTask<Ranges> {
    const all = emptyRanges(this.words, this.count)
    for (const { words, count, first, last, span, value } of this.blocks) {
      all.first.set(first.subarray(0, count * words), all.count * words)
      all.last.set(last.subarray(0, count * words), all.count * words)
      all.span.set(span.subarray(0, count * words), all.count * words)
      all.value.set(value.subarray(0, count), all.count)
      all.count += count
      yield
    }
    return all
  }
}
