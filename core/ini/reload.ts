// Ini files in force: read at the start, read again when they change, and never anything but whole and good.
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { Plugin } from '../haraka/types'
import { harakaDir } from '../paths'
import { type Files, keep, lastGood, type Stamps } from './last-good'
import { type ConfigError, printConfigError } from './parse'
import { iniPath, type Reader, readingOf, stampOf } from './reading'

const POLL_EVERY = 1000 // ms
const QUIET_FOR = 4000 // ms without a change before a file counts as written

const printStamps = (stamps: Stamps): string => [...stamps.values()].join(' ')

/** One configuration of a running server. `value` is the last good one. */
export class Setting<T> {
  value!: T
  /** Changes with the files; the same on every worker that has the same configuration in force. */
  hash = ''
  private inForce = 0
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
  async poll(): Promise<void> {
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
    if (reading.errors.length === 0) this.accept(value, files)
    else refuse(this.plugin, reading.errors)
  }

  private async reload(): Promise<void> {
    const files: Files = new Map()
    const stamps = this.watchOwn()
    const path = stamps.get(this.own) === 'missing' ? this.path : this.own
    const reading = readingOf(this.name, path, files, { stamps })
    const value = await (this.reader.sliced?.(reading) ?? this.reader.read(reading))
    const { length } = reading.errors
    if (length === 0 && this.endedInALine && !endsInALine(files.get(path))) {
      const text = 'the last line has no line end; is the file still being written?'
      reading.errors.push({ file: this.name, section: '', key: '', text })
    }
    if (reading.errors.length > 0) {
      this.complain(reading.errors)
      return
    }
    this.path = path
    this.accept(value, files)
    this.onChange()
    this.plugin.lognotice(`config/relay-guard/${this.name} was read again and is in force (${this.hash})`)
  }

  private accept(value: T, files: Files): void {
    this.value = value
    this.inForce++
    this.endedInALine = endsInALine(files.get(this.path))
    const hash = createHash('sha256')
    for (const [file, data] of files) hash.update(`${file}\0${data.length}\0`).update(data)
    this.hash = hash.digest('hex').slice(0, 12)
    keep(this.plugin, this.name, { path: this.path, files, stamps: this.stamps })
  }

  /** 1 at the start, and one more each time another configuration is in force. */
  get generation(): number {
    return this.inForce
  }

  fail(error: Error): void {
    this.plugin.logerror(`config/relay-guard/${this.name} could not be read again: ${error.message}`)
  }

  private complain(errors: ConfigError[]): void {
    for (const error of errors) this.plugin.logerror(printConfigError(error))
    this.plugin.logerror(
      `config/relay-guard/${this.name} has errors (${errors.length}); the last good configuration stays in force`,
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
    for (const each of settings) await each.poll().catch((error) => each.fail(error))
    busy = false
  }
  setInterval(() => void look(), POLL_EVERY).unref()
}

/** A hash over all configurations in force in this process. */
export const configurationHash = (): string =>
  createHash('sha256')
    .update(settings.map((s) => `${s.name}:${s.hash}`).join())
    .digest('hex')
    .slice(0, 12)

let refused = 0

function refuse(plugin: Plugin, errors: ConfigError[]): void {
  refused += errors.length
  for (const error of errors) plugin.logcrit(printConfigError(error))
}

/**
 * Ends a plugin's `register`: stops Haraka where a file has errors, but only at the last of our lines in
 * config/plugins, so that the errors of all files are seen at once. Throws Error.
 */
export function failStartOnErrors(plugin: Plugin): void {
  if (refused === 0) return
  const lines = (plugin.config.get('plugins', 'list') as string[] | undefined) ?? []
  const ours = lines
    .map((line) => line.replace(/^haraka-plugin-/, ''))
    .filter((line) => line.startsWith('relay-guard/'))
  if (ours.includes(plugin.name) && ours.at(-1) !== plugin.name) return
  throw new Error(`config/relay-guard has errors (${refused}), listed above; Haraka does not start`)
}
