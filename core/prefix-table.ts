// From an address to the entry with the fewest addresses that contains it: sorted disjoint intervals, binary search.
import { type Ip, parseIp } from './ip'
import type { Range } from './prefix'
import { type Intervals, type Ranges, sweep } from './prefix-sweep'
import { runAtOnce, runInSlices, type Work } from './slices'

function find({ words, starts, values }: Intervals, ip: Ip): number {
  let low = 0
  let high = values.length
  while (low < high) {
    const middle = (low + high) >>> 1
    let word = 0
    while (word < words - 1 && starts[middle * words + word] === ip[word]) word++
    if (starts[middle * words + word]! <= ip[word]!) low = middle + 1
    else high = middle
  }
  return low ? values[low - 1]! : -1
}

export class PrefixTable {
  constructor(
    private readonly v4: Intervals,
    private readonly v6: Intervals,
  ) {}

  /** A small table at once. The value of a range is its index. */
  static of(ranges: readonly Range[]): PrefixTable {
    const builder = new PrefixTableBuilder()
    ranges.forEach((range, index) => {
      builder.add(range, index)
    })
    return builder.buildSync()
  }

  /**
   * The value of the smallest range that contains the address, -1 when none does or the text is no address.
   * Never throws. A zone id does not count: Node.js gives fe80::1%eth0 for a link-local client.
   */
  lookup(ip: string | null | undefined): number {
    if (!ip) return -1
    const address = parseIp(ip) ?? parseIp(ip.replace(/%.*$/s, ''))
    if (!address) return -1
    return find(address.length === 1 ? this.v4 : this.v6, address)
  }
}

const emptyRanges = (words: number, room = 16): Ranges => ({
  words,
  count: 0,
  first: new Uint32Array(room * words),
  last: new Uint32Array(room * words),
  span: new Uint32Array(room * words),
  value: new Int32Array(room),
})

function grown(ranges: Ranges): Ranges {
  const bigger = emptyRanges(ranges.words, ranges.count * 2)
  bigger.count = ranges.count
  for (const column of ['first', 'last', 'span', 'value'] as const) bigger[column].set(ranges[column])
  return bigger
}

function append({ words, count, first, last, span, value }: Ranges, range: Range, number: number) {
  value[count] = number
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
}

/** Collects ranges and makes a table of them once; spent after that. */
export class PrefixTableBuilder {
  private v4 = emptyRanges(1)
  private v6 = emptyRanges(4)

  /**
   * `onSameSize` is told, while building, the values of every two overlapping ranges with the same number of addresses
   * that neither a smaller nor a larger one decides between: equal ranges, or shifted ones. The first value is the one in
   * force. Of three and more each is reported with the next one only, which is enough to find that two differ.
   */
  constructor(private readonly onSameSize: (value: number, other: number) => void = () => undefined) {}

  /** `value` is a non-negative 31-bit integer. */
  add(range: Range, value: number) {
    let ranges = range.family === 4 ? this.v4 : this.v6
    if (ranges.count === ranges.value.length) {
      ranges = grown(ranges)
      if (range.family === 4) this.v4 = ranges
      else this.v6 = ranges
    }
    append(ranges, range, value)
    ranges.count++
  }

  /** The work of building, for a caller that has more to do in the same slices. */
  *work(): Work<PrefixTable> {
    const v4 = yield* sweep(this.v4, this.onSameSize)
    const v6 = yield* sweep(this.v6, this.onSameSize)
    return new PrefixTable(v4, v6)
  }

  /** Builds at once: for the start of a server, and for small lists. */
  buildSync(): PrefixTable {
    return runAtOnce(this.work())
  }

  /** Builds while the event loop goes on. */
  build(): Promise<PrefixTable> {
    return runInSlices(this.work())
  }
}
