// Ini files in force: read at the start, read again when they change, and never anything but whole and good.
import { createHash } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Plugin } from '../haraka/types'
import { type Files, keep, lastGood, type Stamps } from './last-good'
import { type IniSection, type Mistake, parseIni, printMistake } from './parse'

const LOOK_EVERY = 1000 // ms
const QUIET_FOR = 4000 // ms without a change before a file counts as written

/** Haraka's directory: the one that holds config/. */
export const harakaDir = (): string => process.env['HARAKA'] ?? '.'
export const packageDir = join(__dirname, '../..')
export const packageVersion = (): string =>
  JSON.parse(readFileSync(join(packageDir, 'package.json'), 'utf8')).version

/** What a reader gets: the sections of its file, where to put mistakes, and the way to other files. */
export interface Reading {
  sections: IniSection[]
  mistakes: Mistake[]
  /** Another file that belongs to this configuration, watched like the ini file. Throws what `readFileSync` throws. */
  open(path: string): Buffer
}

/** Turns sections into a configuration, or pushes mistakes; `sliced` does the same without blocking (a large reload). */
export interface Reader<T> {
  read(reading: Reading): T
  sliced?(reading: Reading): Promise<T>
}

function stampOf(file: string): string {
  try {
    const stat = statSync(file, { throwIfNoEntry: false })
    return stat ? `${stat.ino}:${stat.size}:${stat.mtimeMs}` : 'missing'
  } catch (error) {
    return String(error)
  }
}

const printStamps = (stamps: Stamps): string => [...stamps.values()].join(' ')

/** The file in force for `config/relay-guard/NAME`: the operator's, or where there is none the package's default. */
export function iniPath(dir: string, name: string): string {
  const own = join(dir, 'config', 'relay-guard', name)
  return statSync(own, { throwIfNoEntry: false }) ? own : join(packageDir, 'config', 'relay-guard', name)
}

/**
 * Reads `path` for a reader. `files` collects what was read. `frozen`: `files` comes filled, and nothing else is read.
 * `stamps` collects how each file was just before it was opened, also one that then could not be read.
 */
export function readingOf(
  name: string,
  path: string,
  files: Files,
  { frozen = false, stamps }: { frozen?: boolean; stamps?: Stamps } = {},
): Reading {
  const mistakes: Mistake[] = []
  const open = (file: string) => {
    const known = files.get(file)
    if (known) return known
    if (frozen) throw new Error(`${file} is not in the last good configuration`)
    stamps?.set(file, stampOf(file))
    const data = readFileSync(file)
    files.set(file, data)
    return data
  }
  let sections: IniSection[] = []
  try {
    sections = parseIni(name, open(path).toString('utf8'), mistakes)
  } catch (error) {
    mistakes.push({ file: name, section: '', key: '', text: `cannot be read: ${(error as Error).message}` })
  }
  return { sections, mistakes, open }
}

/** One configuration of a running server. `value` is the last good one. */
export class Setting<T> {
  value!: T
  /** Changes with the files; the same on every worker that has the same configuration in force. */
  hash = ''
  private path = ''
  private stamps: Stamps = new Map()
  private changed = { signature: '', at: 0 }
  /** Of a large list the text itself is not kept. */
  private endedInALine = false

  constructor(
    private readonly plugin: Plugin,
    readonly name: string,
    private readonly reader: Reader<T>,
    /** Called when another configuration is in force than at the start. */
    private readonly onChange: () => void = () => undefined,
  ) {
    this.start()
    watch(this)
  }

  /** Called each second: reloads when the files differ from those in force and have been quiet for a while. */
  async look(): Promise<void> {
    const signature = [...this.stamps.keys()].map(stampOf).join(' ')
    if (signature === printStamps(this.stamps)) return
    if (signature !== this.changed.signature) this.changed = { signature, at: Date.now() }
    if (Date.now() - this.changed.at < QUIET_FOR) return
    await this.reload()
  }

  private start(): void {
    const kept = lastGood(this.name)
    if (kept) {
      this.path = kept.path
      this.stamps = kept.stamps
      this.accept(this.reader.read(readingOf(this.name, kept.path, kept.files, { frozen: true })), kept.files)
      return
    }
    this.path = iniPath(harakaDir(), this.name)
    const files: Files = new Map()
    const reading = readingOf(this.name, this.path, files, { stamps: this.watchOwn() })
    const value = this.reader.read(reading)
    if (reading.mistakes.length === 0) this.accept(value, files)
    else refuse(this.plugin, reading.mistakes)
  }

  private async reload(): Promise<void> {
    const files: Files = new Map()
    const stamps = this.watchOwn()
    const path = stamps.get(this.own) === 'missing' ? this.path : this.own
    const reading = readingOf(this.name, path, files, { stamps })
    const value = await (this.reader.sliced?.(reading) ?? this.reader.read(reading))
    const { length } = reading.mistakes
    if (length === 0 && this.endedInALine && !endsInALine(files.get(path))) {
      const text = 'the last line has no line end; is the file still being written?'
      reading.mistakes.push({ file: this.name, section: '', key: '', text })
    }
    if (reading.mistakes.length > 0) {
      this.complain(reading.mistakes)
      return
    }
    this.path = path
    this.accept(value, files)
    this.onChange()
    this.plugin.lognotice(`config/relay-guard/${this.name} was read again and is in force (${this.hash})`)
  }

  private accept(value: T, files: Files): void {
    this.value = value
    this.endedInALine = endsInALine(files.get(this.path))
    const hash = createHash('sha256')
    for (const [file, data] of files) hash.update(`${file}\0${data.length}\0`).update(data)
    this.hash = hash.digest('hex').slice(0, 12)
    keep(this.plugin, this.name, { path: this.path, files, stamps: this.stamps })
  }

  fail(error: Error): void {
    this.plugin.logerror(`config/relay-guard/${this.name} could not be read again: ${error.message}`)
  }

  private complain(mistakes: Mistake[]): void {
    for (const mistake of mistakes) this.plugin.logerror(printMistake(mistake))
    this.plugin.logerror(
      `config/relay-guard/${this.name} has mistakes (${mistakes.length}); the last good configuration stays in force`,
    )
  }

  private get own(): string {
    return join(harakaDir(), 'config', 'relay-guard', this.name)
  }

  /** Begins to watch afresh. What changes while it is being read differs from its stamp, and is read again. */
  private watchOwn(): Stamps {
    this.stamps = new Map([[this.own, stampOf(this.own)]])
    return this.stamps
  }
}

const endsInALine = (data: Buffer | undefined): boolean => data?.at(-1) === 0x0a

const settings: Setting<unknown>[] = []

function watch(setting: Setting<unknown>): void {
  if (settings.push(setting) > 1) return
  let busy = false
  const look = async () => {
    if (busy) return
    busy = true
    for (const each of settings) await each.look().catch((error) => each.fail(error))
    busy = false
  }
  setInterval(() => void look(), LOOK_EVERY).unref()
}

/** A hash over all configurations in force in this process. */
export const configurationHash = (): string =>
  createHash('sha256')
    .update(settings.map((s) => `${s.name}:${s.hash}`).join())
    .digest('hex')
    .slice(0, 12)

let refused = 0

function refuse(plugin: Plugin, mistakes: Mistake[]): void {
  refused += mistakes.length
  for (const mistake of mistakes) plugin.logcrit(printMistake(mistake))
}

/**
 * Ends a plugin's `register`: stops Haraka where a file has mistakes, but only at the last of our lines in
 * config/plugins, so that the mistakes of all files are seen at once. Throws Error.
 */
export function settled(plugin: Plugin): void {
  if (refused === 0) return
  const lines = (plugin.config.get('plugins', 'list') as string[] | undefined) ?? []
  const ours = lines
    .map((line) => line.replace(/^haraka-plugin-/, ''))
    .filter((line) => line.startsWith('relay-guard/'))
  if (ours.includes(plugin.name) && ours.at(-1) !== plugin.name) return
  throw new Error(`config/relay-guard has mistakes (${refused}), listed above; Haraka does not start`)
}
