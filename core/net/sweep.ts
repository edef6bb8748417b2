// Turns overlapping ranges into disjoint intervals; each gets the value of the range with the fewest addresses.

import type { CooperativeTask } from '../time-slices'
import type { Ranges } from './range-arrays'

/** Sorted starts, each with the value that holds from there to the next one; -1 is none. */
export interface Intervals {
  words: number
  starts: Uint32Array
  values: Int32Array
}

const STEP = 4096

/** Compares two addresses of `words` words, each given by its index: negative, 0 or positive. */
function compare(a: Uint32Array, i: number, b: Uint32Array, j: number, words: number): number {
  for (let word = 0; word < words; word++) {
    const difference = a[i * words + word]! - b[j * words + word]!
    if (difference) return difference
  }
  return 0
}

/** The ranges' indexes sorted by first address, stable. A radix sort, because it can be interrupted anywhere. */
function* sortByFirst({ words, count, first }: Ranges): CooperativeTask<Uint32Array> {
  let order = new Uint32Array(count)
  let sorted = new Uint32Array(count)
  for (let at = 0; at < count; at++) {
    order[at] = at
    if (at % STEP === 0) yield
  }
  for (let byte = 0; byte < words * 4; byte++) {
    const word = words - 1 - (byte >>> 2)
    const shift = (byte & 3) * 8
    const places = new Uint32Array(257)
    for (let at = 0; at < count; at++) {
      places[((first[at * words + word]! >>> shift) & 255) + 1]!++
      if (at % STEP === 0) yield
    }
    if (places.includes(count)) continue
    for (let digit = 1; digit < 256; digit++) places[digit]! += places[digit - 1]!
    for (let at = 0; at < count; at++) {
      const index = order[at]!
      sorted[places[(first[index * words + word]! >>> shift) & 255]!++] = index
      if (at % STEP === 0) yield
    }
    ;[order, sorted] = [sorted, order]
  }
  return order
}

/** The ranges open at one address, the one with the fewest addresses on top (a binary heap). */
class OpenRanges {
  private readonly heap: number[] = []

  constructor(
    private readonly ranges: Ranges,
    private readonly onSameSize: (value: number, other: number) => void,
  ) {}

  get top(): number {
    return this.heap[0] ?? -1
  }

  private isAbove(a: number, b: number): boolean {
    const { span, first, words } = this.ranges
    return (compare(span, a, span, b, words) || compare(first, a, first, b, words) || a - b) < 0
  }

  push(range: number) {
    const { heap } = this
    let at = heap.length
    for (let parent = (at - 1) >> 1; at && this.isAbove(range, heap[parent]!); parent = (at - 1) >> 1) {
      heap[at] = heap[parent]!
      at = parent
    }
    heap[at] = range
  }

  /** Removes the top. Overlapping ranges of equal size always meet here, whatever smaller ranges hide them. */
  pop() {
    const { heap } = this
    const gone = this.top
    const moved = heap.pop()!
    if (!heap.length) return
    let at = 0
    for (let child = 1; child < heap.length; child = at * 2 + 1) {
      if (child + 1 < heap.length && this.isAbove(heap[child + 1]!, heap[child]!)) child++
      if (!this.isAbove(heap[child]!, moved)) break
      heap[at] = heap[child]!
      at = child
    }
    heap[at] = moved
    this.report(gone, this.top)
  }

  private report(range: number, other: number) {
    const { span, first, last, value, words } = this.ranges
    if (compare(span, range, span, other, words) || compare(first, other, last, range, words) > 0) return
    this.onSameSize(value[range]!, value[other]!)
  }
}

/** Writes intervals from left to right. Of several that start at one address the last one holds. */
class IntervalWriter {
  private length = 0
  private readonly starts: Uint32Array
  private readonly values: Int32Array

  constructor(private readonly ranges: Ranges) {
    // Each range begins once and ends once.
    this.starts = new Uint32Array(ranges.count * 2 * ranges.words)
    this.values = new Int32Array(ranges.count * 2)
  }

  /** `range` holds from its first address on. */
  from(range: number) {
    const { words, first, value } = this.ranges
    for (let word = 0; word < words; word++) {
      this.starts[this.length * words + word] = first[range * words + word]!
    }
    this.values[this.length++] = value[range]!
  }

  /** `next` (or none, -1) holds from the address after the last one of `range`. */
  after(range: number, next: number) {
    const { words, last, value } = this.ranges
    let carry = 1
    for (let word = words - 1; word >= 0; word--) {
      const sum = last[range * words + word]! + carry
      this.starts[this.length * words + word] = sum
      carry = sum > 0xffffffff ? 1 : 0
    }
    if (!carry) this.values[this.length++] = next < 0 ? -1 : value[next]!
  }

  /** Views instead of copies: pages that were never written take no memory. */
  done(): Intervals {
    const { words } = this.ranges
    return {
      words,
      starts: this.starts.subarray(0, this.length * words),
      values: this.values.subarray(0, this.length),
    }
  }
}

/** Of two ranges of one size that overlap, the one that begins first decides, then the one added first; both are reported. */
export function* sweep(
  ranges: Ranges,
  onSameSize: (value: number, other: number) => void,
): CooperativeTask<Intervals> {
  const { words, count, first, last } = ranges
  const order = yield* sortByFirst(ranges)
  const open = new OpenRanges(ranges, onSameSize)
  const writer = new IntervalWriter(ranges)
  let steps = 0
  for (let at = 0; at <= count; at++) {
    const range = order[at] ?? -1
    while (open.top >= 0 && (range < 0 || compare(last, open.top, first, range, words) < 0)) {
      const ended = open.top
      open.pop()
      while (open.top >= 0 && compare(last, open.top, last, ended, words) <= 0) {
        open.pop()
        if (++steps % STEP === 0) yield
      }
      writer.after(ended, open.top)
      if (++steps % STEP === 0) yield
    }
    if (range >= 0) open.push(range)
    if (range >= 0 && open.top === range) writer.from(range)
    if (++steps % STEP === 0) yield
  }
  return writer.done()
}
