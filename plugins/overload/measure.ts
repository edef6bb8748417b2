// What this process measures by itself. Nothing here waits for a disk while an SMTP command does.
import { opendir, stat, statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks'
import type { Measurements, Space } from './policy'

/** A file system as it was. */
export interface FileSystem {
  /** Which one it is. */
  device: number
  disk: Space
  /** Undefined: it reports none, as btrfs and FAT. */
  inodes: Space | undefined
}

/** ms that a measurement counts while no newer one comes: a file system of the network may hang. */
const HOLDS_FOR = 30_000

/** The file system that holds `path`, or where there is nothing yet its folder. Rejects where it cannot be read. */
export async function readFileSystem(path: string): Promise<FileSystem> {
  try {
    const [{ dev }, found] = await Promise.all([stat(path), statfs(path, { bigint: true })])
    const { bsize, blocks, bavail, files, ffree } = found
    return {
      device: dev,
      disk: { free: Number(bavail * bsize), total: Number(blocks * bsize) },
      inodes: files > 0n ? { free: Number(ffree), total: Number(files) } : undefined,
    }
  } catch (error) {
    const above = dirname(path)
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || above === path) throw error
    return readFileSystem(above)
  }
}

/** Samples of one file system, one at a time: one that hangs holds a single thread, and the last one counts on for a while. */
export class Volume {
  #last: (FileSystem & { at: number }) | undefined
  #isBusy = false
  #since: number
  #problem = ''

  /** `now`: ms of a monotonic clock. */
  constructor(
    readonly path: string,
    private readonly read: (path: string) => Promise<FileSystem> = readFileSystem,
    private readonly now: () => number = () => performance.now(),
  ) {
    this.#since = now()
  }

  /** The last sample, with when it was asked for; undefined where it is too old, or there was none. */
  get known(): (FileSystem & { at: number }) | undefined {
    return this.#last && this.now() - this.#last.at < HOLDS_FOR ? this.#last : undefined
  }

  /** Why it is not known; '' where it is, or may be soon. */
  get problem(): string {
    if (this.known) return ''
    if (this.#problem !== '') return this.#problem
    return this.now() - this.#since < HOLDS_FOR ? '' : 'it does not answer'
  }

  /** Takes a sample, unless one is still being taken. Never rejects. */
  async sample(): Promise<void> {
    if (this.#isBusy) return
    this.#isBusy = true
    const at = this.now()
    try {
      this.#last = { ...(await this.read(this.path)), at }
      this.#problem = ''
    } catch (error) {
      this.#problem = (error as Error).message
    } finally {
      this.#isBusy = false
    }
  }
}

/** Of a file that is still being written; Haraka takes `__tmp__.` for a dot. */
const UNFINISHED = /^(?:\.|__tmp__\.)/

/** Counts the messages in Haraka's queue folder, up to one more than `most`. Rejects where it cannot be read. */
export async function countQueue(dir: string, most: number): Promise<NonNullable<Measurements['queue']>> {
  let count = 0
  try {
    for await (const entry of await opendir(dir, { bufferSize: 512 })) {
      if (entry.isDirectory() || UNFINISHED.test(entry.name)) continue
      if (count === most) return { count: count + 1, atLeast: true }
      count++
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  return { count, atLeast: false }
}

/** ms between two looks of Node.js at its event loop; what it records holds them. */
const RESOLUTION = 10

/** Samples in a window: the start of a server takes a moment, and is no overload. */
const WARM_UP = 4

/** How late the event loop is: of 100 looks in the last 3 to 6 seconds, the latest but one. */
export class LoopDelay {
  #windows: IntervalHistogram[] = []
  #samples = 0

  start(): void {
    this.#windows = [1, 2].map(() => monitorEventLoopDelay({ resolution: RESOLUTION }))
    for (const window of this.#windows) window.enable()
  }

  stop(): void {
    for (const window of this.#windows) window.disable()
  }

  /** ms. Called once a second: every third time the older window begins anew. */
  read(): number {
    const [older, newer] = this.#windows
    if (!older || !newer) return 0
    const delay = older.percentile(99) / 1e6 - RESOLUTION
    this.#samples++
    if (this.#samples === 1) newer.reset()
    if (this.#samples === 1 || this.#samples % 3 === 0) {
      older.reset()
      this.#windows = [newer, older]
    }
    return this.#samples < WARM_UP ? 0 : Math.max(delay, 0)
  }
}
