// From an address to the entry with the fewest addresses that contains it: sorted disjoint intervals, binary search.

import { type CooperativeTask, runAtOnce, runInTimeSlices } from '../time-slices'
import { type Ip, parseIp } from './ip'
import type { Range } from './range'
import { RangeCollector } from './range-arrays'
import { type Intervals, sweep } from './sweep'

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

/** Looks an address up among ranges. Immutable; made by PrefixTable.of or PrefixTableBuilder. */
export class PrefixTable {
  constructor(
    private readonly v4: Intervals,
    private readonly v6: Intervals,
  ) {}

  /** Builds a small table in one go. The value of a range is its index. */
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
    const address = parseIp(ip) ?? (ip.includes(':') ? parseIp(ip.split('%', 1)[0]!) : undefined)
    if (!address) return -1
    return find(address.length === 1 ? this.v4 : this.v6, address)
  }

  /** What the table holds: disjoint ranges in order, each with the value that decides there. Adjacent ones may have one value. */
  *ranges(): Generator<Range & { value: number }> {
    for (const { words, starts, values } of [this.v4, this.v6]) {
      const at = (index: number) => [...starts.subarray(index * words, (index + 1) * words)]
      for (const [index, value] of values.entries()) {
        if (value < 0) continue
        const last = index + 1 < values.length ? before(at(index + 1)) : at(index).fill(0xffffffff)
        yield { family: words === 1 ? 4 : 6, first: at(index), last, value }
      }
    }
  }
}

/** The address before this one, which is not the first of all. */
function before(ip: Ip): Ip {
  const address = [...ip]
  let word = address.length - 1
  while (address[word] === 0) address[word--] = 0xffffffff
  address[word]!--
  return address
}

/** Collects ranges, and builds a table of them. */
export class PrefixTableBuilder {
  private readonly v4 = new RangeCollector(1)
  private readonly v6 = new RangeCollector(4)
  private added = 0

  /**
   * `onSameSize` is told, while building, the values of every two overlapping ranges with the same number of addresses
   * that neither a smaller nor a larger one decides between: equal ranges, or shifted ones. The first value is the one in
   * force. Of three and more each is reported with the next one only, which is enough to find that two differ.
   */
  constructor(private readonly onSameSize: (value: number, other: number) => void = () => undefined) {}

  /** How many ranges were added. */
  get size(): number {
    return this.added
  }

  /** `value` is a non-negative 31-bit integer. */
  add(range: Range, value: number) {
    this.added++
    const ranges = range.family === 4 ? this.v4 : this.v6
    ranges.add(range, value)
  }

  /** Builds in steps, for a caller that has more work to do in the same time slices. */
  *work(): CooperativeTask<PrefixTable> {
    const v4 = yield* sweep(yield* this.v4.gather(), this.onSameSize)
    const v6 = yield* sweep(yield* this.v6.gather(), this.onSameSize)
    return new PrefixTable(v4, v6)
  }

  /** Builds in one go: at the start of a server, and for small lists. */
  buildSync(): PrefixTable {
    return runAtOnce(this.work())
  }

  /** Builds in time slices, while the event loop goes on. */
  build(): Promise<PrefixTable> {
    return runInTimeSlices(this.work())
  }
}
