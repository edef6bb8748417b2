// Our look-up beside the stock relay plugin's, in one run, turn by turn: node dist/bench/acl-lookup.js
import { createRequire } from 'node:module'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { type PrefixTable, PrefixTableBuilder } from '../core/net/prefix-table'
import { parseEntry } from '../core/net/range'
import { entries } from '../core/net/range-file'
import { runAtOnce, runInTimeSlices } from '../core/time-slices'

/** The slice of haraka-plugin-relay that is measured. */
interface StockRelay {
  is_acl_allowed(this: { acl_allow: string[] }, connection: unknown): boolean
}

const load = createRequire(__filename)
const stock: StockRelay = load('haraka-plugin-relay/index.js')

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

const MILLION = 1_000_000
const CLIENTS = 1000

/** Scattered, without a repetition below 2^32: an odd factor is a permutation. Even numbers are listed, odd ones are not. */
const scattered = (at: number): number => Math.imul(at, 0x9e3779b1) >>> 0
const v4 = (at: number): string => [24, 16, 8, 0].map((shift) => (scattered(at) >>> shift) & 255).join('.')
const v6 = (at: number): string => {
  const [high, low] = [scattered(at), scattered(at ^ 0x5bd1e995)]
  const groups = [high >>> 16, high & 0xffff, 0, 0, low >>> 16, low & 0xffff]
  return `2001:db8:${groups.map((group) => group.toString(16)).join(':')}`
}

const median = (numbers: number[]): number => numbers.sort((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN

/** Microseconds for each of `count` calls. */
function time(count: number, call: (at: number) => unknown): number {
  const start = performance.now()
  for (let at = 0; at < count; at++) call(at)
  return ((performance.now() - start) * 1000) / count
}

function tableOf(entries: string[]): PrefixTable {
  const builder = new PrefixTableBuilder()
  for (let at = 0; at < entries.length; at++) builder.add(parseEntry(entries[at]!), at)
  return builder.buildSync()
}

/** Ours asks for a thousand addresses all over the list; the stock scan for the entry in the middle, its mean. */
function compareAt(size: number) {
  const entries = Array.from({ length: size }, (_, at) => `${v4(at * 2)}/32`)
  const table = tableOf(entries)
  const plugin = { acl_allow: entries, logdebug: () => undefined }
  const rounds = size < 100_000 ? 15 : size < MILLION ? 3 : 1
  const calls = Math.max(1, Math.round(20_000 / size))
  for (const [client, offset] of [
    ['listed', 0],
    ['unlisted', 1],
  ] as const) {
    const number = (at: number) => Math.floor((at * size) / CLIENTS) * 2 + offset
    const clients = Array.from({ length: CLIENTS }, (_, at) => v4(number(at)))
    const connection = { remote: { ip: v4(number(CLIENTS / 2)) }, logdebug: () => undefined }
    const ours: number[] = []
    const theirs: number[] = []
    for (let round = 0; round < rounds; round++) {
      theirs.push(time(calls, () => stock.is_acl_allowed.call(plugin, connection)))
      ours.push(time(20 * CLIENTS, (at) => table.lookup(clients[at % CLIENTS]!)))
    }
    const [our, their] = [median(ours), median(theirs)]
    console.log(
      `| ${size} | ${client} | ${our.toFixed(2)} | ${their.toFixed(1)} | ${Math.round(their / our)} |`,
    )
  }
}

/** The second collection sees what the first one frees in the background. */
async function memory(): Promise<number> {
  collectGarbage()
  await setTimeout(50)
  collectGarbage()
  await setTimeout(50)
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

async function reload(text: Buffer): Promise<[number, number]> {
  const delay = monitorEventLoopDelay({ resolution: 1 })
  const builder = new PrefixTableBuilder()
  delay.enable()
  await setTimeout(20)
  const start = performance.now()
  await runInTimeSlices(entries(text, (line, entry) => builder.add(parseEntry(entry), line)))
  await builder.build()
  const took = performance.now() - start
  await setTimeout(20)
  delay.disable()
  return [took, delay.max / 1e6]
}

function loadAtOnce(text: Buffer): PrefixTable {
  const builder = new PrefixTableBuilder()
  runAtOnce(entries(text, (line, entry) => builder.add(parseEntry(entry), line)))
  return builder.buildSync()
}

async function loadMillion(name: string, entry: (at: number) => string) {
  const text = Buffer.from(Array.from({ length: MILLION }, (_, at) => `${entry(at * 2)}\n`).join(''))
  const before = await memory()
  const start = performance.now()
  const table = loadAtOnce(text)
  const took = performance.now() - start
  const bytes = ((await memory()) - before) / MILLION
  const clients = Array.from({ length: CLIENTS }, (_, at) => entry(at * CLIENTS * 2))
  const rounds = Array.from({ length: 9 }, () =>
    time(20 * CLIENTS, (at) => table.lookup(clients[at % CLIENTS]!)),
  )
  const [reloaded, longest] = await reload(text)
  const figures = [
    took.toFixed(0),
    bytes.toFixed(1),
    median(rounds).toFixed(2),
    reloaded.toFixed(0),
    longest.toFixed(0),
  ]
  console.log(`| ${name} | ${figures.join(' | ')} |`)
}

async function main() {
  console.log(`Node.js ${process.version}, medians.\n`)
  console.log(
    '| entries (IPv4 hosts) | client | ours, us | stock, us | stock / ours |\n|---|---|---|---|---|',
  )
  for (const size of [10, 1000, 100_000, MILLION]) compareAt(size)
  console.log(
    '\n| 1,000,000 entries | start, ms | bytes an entry | look-up, us | reload, ms | longest block, ms |',
  )
  console.log('|---|---|---|---|---|---|')
  await loadMillion('IPv4 hosts', v4)
  await loadMillion('IPv6 hosts', v6)
}

void main()
