import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PrefixTable, PrefixTableBuilder } from '../core/net/prefix-table'
import { parseEntry } from '../core/net/range'
import { longestTurn } from './support/longest-turn'
import { fc } from './support/random'

/** The model: numbers, a linear scan, no code of the table's. */
interface Entry {
  bits: 32 | 128
  first: bigint
  size: bigint
}

const WINDOW = 40n
const V4_BASES = [0n, 0x0a00_0000n, 0x7fff_fff0n, 0xc000_0200n, (1n << 32n) - WINDOW]
const V6_BASES = [
  0n,
  0xffff_0000_0000n - 20n,
  (1n << 32n) - 20n,
  (0x2001_0db8n << 96n) + (1n << 64n) - 20n,
  (1n << 128n) - WINDOW,
]

function print(address: bigint, bits: 32 | 128): string {
  if (bits === 32) return [24n, 16n, 8n, 0n].map((shift) => (address >> shift) & 255n).join('.')
  const hex = address.toString(16).padStart(32, '0')
  return hex.match(/..../g)!.join(':')
}

const isMapped = (address: bigint): boolean => address >> 32n === 0xffffn

/** As CIDR where that says it, else as a range. */
function printEntry({ bits, first, size }: Entry): string {
  const isSubnet = (size & (size - 1n)) === 0n && first % size === 0n
  if (isSubnet) return `${print(first, bits)}/${bits - size.toString(2).length + 1}`
  return `${print(first, bits)}-${print(first + size - 1n, bits)}`
}

/** Ranges that crowd around one address: some of a few addresses, some so long that they carry through every word. */
const around = (base: bigint, bits: 32 | 128): fc.Arbitrary<Entry> =>
  fc
    .tuple(
      fc.bigInt(0n, WINDOW - 1n),
      fc.bigInt(1n, WINDOW),
      fc.constantFrom(0n, 0n, 0n, 32n, 64n),
      fc.bigInt(-3n, 3n),
    )
    .map(([offset, count, scale, jitter]) => {
      const first = base + offset
      const size = (bits === 32 ? count : (count << scale) + jitter) || 1n
      const room = (1n << BigInt(bits)) - first
      return { bits, first, size: size < 1n ? 1n : size < room ? size : room }
    })

const subnet: fc.Arbitrary<Entry> = fc
  .tuple(fc.constantFrom(...V4_BASES), fc.bigInt(0n, 32n))
  .map(([base, shift]) => ({ bits: 32, first: (base >> shift) << shift, size: 1n << shift }))

const crowd = fc.oneof(
  fc.constantFrom(...V4_BASES).map((base) => around(base, 32)),
  fc.constantFrom(...V6_BASES).map((base) => around(base, 128)),
)

/** A range is IPv4 when both its ends are mapped, and impossible when one is. */
const asRead = (made: Entry): Entry =>
  made.bits === 128 && isMapped(made.first) ? { ...made, bits: 32, first: made.first & 0xffff_ffffn } : made

const entries: fc.Arbitrary<Entry[]> = fc
  .tuple(crowd, crowd)
  .chain(([one, two]) => fc.array(fc.oneof(one, one, two, subnet), { maxLength: 40 }))
  .map((list) =>
    list
      .filter(({ bits, first, size }) => bits === 32 || isMapped(first) === isMapped(first + size - 1n))
      .map(asRead),
  )

const order = (all: Entry[]) => (a: number, b: number) => {
  const [x, y] = [all[a]!, all[b]!]
  return Number(x.size - y.size) || (x.first < y.first ? -1 : x.first > y.first ? 1 : a - b)
}

const overlap = (a: Entry, b: Entry) =>
  a.bits === b.bits && a.first < b.first + b.size && b.first < a.first + a.size

function expected(all: Entry[], bits: 32 | 128, address: bigint): number {
  const holding = [...all.keys()].filter((index) => overlap(all[index]!, { bits, first: address, size: 1n }))
  return holding.sort(order(all))[0] ?? -1
}

function built(all: Entry[]) {
  const pairs: [number, number][] = []
  const builder = new PrefixTableBuilder((value, other) => pairs.push([value, other]))
  all.forEach((each, index) => {
    builder.add(parseEntry(printEntry(each)), index)
  })
  return { table: builder.buildSync(), pairs }
}

function assertSame(table: PrefixTable, all: Entry[], bits: 32 | 128, address: bigint) {
  if (address < 0n || address >> BigInt(bits)) return
  if (bits === 128 && isMapped(address)) return assertSame(table, all, 32, address & 0xffff_ffffn)
  const value = expected(all, bits, address)
  const text = print(address, bits)
  assert.equal(table.lookup(text), value, text)
  if (bits === 32) assert.equal(table.lookup(`::ffff:${text}`), value, text)
}

test('every list answers as a linear scan for the fewest addresses does, at each end of each entry', () => {
  fc.assert(
    fc.property(entries, (all) => {
      const { table } = built(all)
      for (const { bits, first, size } of all) {
        for (const address of [first - 1n, first, first + size - 1n, first + size])
          assertSame(table, all, bits, address)
      }
    }),
    { numRuns: 500 },
  )
})

test('neighbours in size and place that overlap are reported, each pair once, whatever else hides them', () => {
  fc.assert(
    fc.property(entries, (all) => {
      const bySize = [32, 128].map((bits) =>
        [...all.keys()].filter((i) => all[i]!.bits === bits).sort(order(all)),
      )
      const pairs = bySize.flatMap((sorted) =>
        sorted.slice(1).flatMap((other, at) => {
          const value = sorted[at]!
          return all[value]!.size === all[other]!.size && overlap(all[value]!, all[other]!)
            ? [[value, other]]
            : []
        }),
      )
      assert.deepEqual(built(all).pairs.sort(), pairs.sort())
    }),
    { numRuns: 300 },
  )
})

test('no two overlapping entries of one size with different meanings go unnoticed', () => {
  const meanings = fc.array(fc.boolean(), { minLength: 40, maxLength: 40 })
  fc.assert(
    fc.property(entries, meanings, (all, meaning) => {
      const differ = (a: number, b: number) => meaning[a] !== meaning[b]
      const contradicts = all.some((a, i) =>
        all.some((b, j) => a.size === b.size && overlap(a, b) && differ(i, j)),
      )
      assert.equal(
        built(all).pairs.some(([a, b]) => differ(a, b)),
        contradicts,
      )
    }),
    { numRuns: 300 },
  )
})

const tableOf = (...texts: string[]) => PrefixTable.of(texts.map(parseEntry))

test('a prefix shorter than /96 that covers the mapped addresses is IPv6 and does not match IPv4', () => {
  const table = tableOf('::/0', '::fffe:0:0/95')
  assert.equal(table.lookup('192.0.2.1'), -1)
  assert.equal(table.lookup('::ffff:192.0.2.1'), -1)
  assert.equal(table.lookup('::fffe:1:1'), 1)
  assert.equal(tableOf('::ffff:0:0/96').lookup('192.0.2.1'), 0)
  assert.equal(tableOf('0.0.0.0/0').lookup('::ffff:c000:201'), 0)
  assert.equal(tableOf('0.0.0.0/0').lookup('::192.0.2.1'), -1)
})

test('an exception is carved out of a network, and an exception out of that', () => {
  const table = tableOf('10.0.0.0/8', '10.20.0.0-10.20.0.99', '10.20.0.50')
  const at = (ip: string) => table.lookup(ip)
  assert.deepEqual(
    ['10.19.255.255', '10.20.0.0', '10.20.0.49', '10.20.0.50', '10.20.0.51', '10.20.0.100', '11.0.0.0'].map(
      at,
    ),
    [0, 1, 1, 2, 1, 0, -1],
  )
})

test('sizes compare through all words: a range of 2^64-1 addresses beats a /64 that it overlaps', () => {
  assert.equal(tableOf('2001:db8::/64', '2001:db8::5-2001:db8:0:1::3').lookup('2001:db8::6'), 1)
})

test('a bare IPv6 address is one host, not a /32', () => {
  assert.equal(tableOf('2001:db8:1::5').lookup('2001:db8:ffff:1234::99'), -1)
})

test('a look-up of what is no address finds nothing and never throws', () => {
  const table = tableOf('0.0.0.0/0', '::/0')
  const anything = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.constantFrom('', '1.2.3', '010.0.0.1', '%', 'fe80::%%', '::1/64', ' ::1'),
  )
  fc.assert(
    fc.property(anything, (text) => {
      assert.equal(table.lookup(`x${text}`), -1)
      assert.equal(typeof table.lookup(text), 'number')
    }),
  )
  for (const none of ['', '010.0.0.1', '1.2.3', '::1/64', ' ::1', '%eth0', '10.0.0.1%eth0', null, undefined])
    assert.equal(table.lookup(none), -1)
})

test('a zone id, which Node.js adds to a link-local client, does not hide the client', () => {
  assert.equal(tableOf('fe80::/10').lookup('fe80::1%eth0'), 0)
})

test('an empty table finds nothing', () => {
  assert.equal(tableOf().lookup('192.0.2.1'), -1)
  assert.equal(tableOf().lookup('2001:db8::1'), -1)
})

/** How many times a network and a host in it. Mostly IPv6, which takes longer. */
const V6_PAIRS = 400_000
const V4_PAIRS = 100_000
const v4 = (at: number, low: number) => `${(at >> 15) + 11}.${(at >> 7) & 255}.${(at & 127) << 1}.${low}`
const v6 = (at: number, low: number) =>
  `2001:db8:${(at >> 16).toString(16)}:${(at & 0xffff).toString(16)}::${low}`

test('a million entries build while the event loop goes on, and are found', async () => {
  const builder = new PrefixTableBuilder()
  for (let step = 0; step < V6_PAIRS; step++) {
    const at = (step * 7919) % V6_PAIRS
    builder.add(parseEntry(`${v6(at, 0).slice(0, -1)}/64`), at * 4)
    builder.add(parseEntry(v6(at, 7)), at * 4 + 1)
    if (at >= V4_PAIRS) continue
    builder.add(parseEntry(`${v4(at, 0)}/24`), at * 4 + 2)
    builder.add(parseEntry(v4(at, 7)), at * 4 + 3)
  }
  let table = tableOf()
  const longest = await longestTurn(async () => {
    table = await builder.build()
  })
  for (let at = 0; at < V6_PAIRS; at += 97) {
    assert.equal(table.lookup(v6(at, 8)), at * 4)
    assert.equal(table.lookup(v6(at, 7)), at * 4 + 1)
    if (at >= V4_PAIRS) continue
    assert.equal(table.lookup(v4(at, 8)), at * 4 + 2)
    assert.equal(table.lookup(v4(at, 7)), at * 4 + 3)
    const oddNetwork = v4(at, 7).replace(/\d+\.7$/, (end) => `${Number.parseInt(end, 10) + 1}.7`)
    assert.equal(table.lookup(oddNetwork), -1)
  }
  assert.ok(longest < 300, `the event loop stood still for ${longest} ms`)
})
