// What the master last found good, for the workers that it forks: one forked again while a file is broken goes on
// with that instead of failing, and being forked again, without end. It is handed over in files without a name that
// the worker inherits open, so that no copy of a password can be opened by its path or outlives the processes,
// however they end. Where a process cannot inherit files (not a POSIX system) a worker reads the files themselves.
import cluster from 'node:cluster'
import { randomUUID } from 'node:crypto'
import { closeSync, constants, fstatSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Host, hasWorkers } from './host'
import type { Files, Stamps } from './reading'

/** For workers: which file descriptor holds what, as `acl.ini=4 auth.ini=5`. */
const DESCRIPTORS = 'RELAY_GUARD_LAST_GOOD'
/** How the data begins. A descriptor of something else does not. */
const MAGIC = 'relay-guard last good '

/** A configuration in force. */
export interface LastGood {
  /** Of the ini file. */
  path: string
  files: Files
  stamps: Stamps
}

const held = new Map<string, number>()
let ours: unknown

/** Keeps it for the workers that are forked from now on. Without workers it does nothing; a failure is logged. */
export function keep(host: Host, name: string, lastGood: LastGood): void {
  if (!cluster.isPrimary || !hasWorkers(host)) return
  try {
    const before = held.get(name)
    held.set(name, hold(lastGood))
    if (before !== undefined) closeSync(before)
    handDown()
  } catch (error) {
    const why = (error as Error).message
    host.logerror(
      `config/relay-guard/${name} could not be kept for workers (${why}): none can start while the file is broken`,
    )
  }
}

/** Workers inherit what stands in `stdio`, each file under its place there. */
function handDown(): void {
  const { stdio } = cluster.settings
  const others = (stdio && stdio !== ours ? stdio : ['inherit', 'inherit', 'inherit', 'ipc']) as 'ipc'[]
  const all = [...others, ...held.values()]
  cluster.setupPrimary({ stdio: all })
  ours = cluster.settings.stdio
  process.env[DESCRIPTORS] = [...held.keys()]
    .map((name, index) => `${name}=${others.length + index}`)
    .join(' ')
}

/** In memory where the system has a place for that; on disk, without a name, where that is missing or full. */
function hold(lastGood: LastGood): number {
  try {
    return write('/dev/shm', lastGood)
  } catch {
    return write(tmpdir(), lastGood)
  }
}

function write(dir: string, { path, files, stamps }: LastGood): number {
  const name = join(dir, `relay-guard-${process.pid}-${randomUUID()}`)
  const fd = openSync(name, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600)
  try {
    unlinkSync(name)
    const lengths = [...files].map(([file, { length }]) => [file, length])
    writeAll(fd, Buffer.from(`${MAGIC}${JSON.stringify({ path, lengths, stamps: [...stamps] })}\n`))
    for (const data of files.values()) writeAll(fd, data)
    return fd
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

function writeAll(fd: number, data: Buffer): void {
  for (let at = 0; at < data.length; ) at += writeSync(fd, data, at)
}

/** What the master kept, for a worker, once; undefined elsewhere, and where it kept nothing. */
export function lastGood(name: string): LastGood | undefined {
  if (cluster.isPrimary) return undefined
  const fd = takeDescriptor(name)
  if (fd === undefined) return undefined
  try {
    return read(fd)
  } catch {
    return undefined
  }
}

/** A descriptor is closed when it has been read, and then means something else. */
function takeDescriptor(name: string): number | undefined {
  const pairs = (process.env[DESCRIPTORS] ?? '').split(' ')
  const pair = pairs.find((each) => each.startsWith(`${name}=`))
  process.env[DESCRIPTORS] = pairs.filter((each) => each !== pair).join(' ')
  return pair === undefined ? undefined : Number(pair.slice(name.length + 1))
}

function read(fd: number): LastGood | undefined {
  const stat = fstatSync(fd)
  if (!stat.isFile()) return undefined
  // Other workers read the same open file, each at its own pace.
  const all = Buffer.alloc(stat.size)
  for (let at = 0; at < all.length; ) {
    const count = readSync(fd, all, at, all.length - at, at)
    if (count === 0) return undefined
    at += count
  }
  if (!all.toString('latin1', 0, MAGIC.length).startsWith(MAGIC)) return undefined
  closeSync(fd)
  const end = all.indexOf(0x0a)
  const { path, lengths, stamps } = JSON.parse(all.toString('utf8', MAGIC.length, end)) as {
    path: string
    lengths: [string, number][]
    stamps: [string, string][]
  }
  const files: Files = new Map()
  let at = end + 1
  for (const [file, length] of lengths) {
    files.set(file, all.subarray(at, at + length))
    at += length
  }
  return { path, files, stamps: new Map(stamps) }
}
