// Ini files in force: read at the start, read again when they change, and never anything but whole and good.
import cluster from 'node:cluster'
import { createHash } from 'node:crypto'
import { harakaDir } from '../paths'
import { readWhole, type Shape, shapeOf, stampOf } from './files'
import type { Host } from './host'
import { keep, lastGood } from './last-good'
import { type ConfigError, printConfigError } from './parse'
import { type Files, iniPath, ownPath, type Reader, readingOf, type Stamps } from './reading'
import { asOtherUser, otherUser } from './run-as'
import { holdsSecrets } from './secrets'
import { refuseStart } from './start-errors'
import { everySecond, type Polled, type Watch } from './watch'

const QUIET_FOR = 4000 // ms without a change before a file counts as written
/** A file that keeps changing is in force within 15 s: after so long, ms, it is read although it still changes. */
const LONGEST_WAIT = 10_000
/** Until then, ms, one that seems to be in the middle of being written is tried again without a word. */
const LONGEST_TRIES = 14_000

/** A change that has been seen and is not judged yet. */
interface Change {
  since: number
  signature: string
  quietSince: number
  /** Files that belong to it beside those that were watched before. */
  files: Set<string>
}

/**
 * One configuration of a running server. `value` is the last good one, and does not change while it is in force.
 * At the start errors are logged, and `failStartOnErrors` then ends the start.
 */
export class Setting<T> implements Polled {
  value!: T
  /** Changes with the files; the same on every worker that has the same configuration in force. */
  hash = ''
  private inForce = 0
  private path = ''
  /** Each file as it was when it was judged last, whatever came of it. */
  private stamps: Stamps = new Map()
  /** The files in force. */
  private good = new Map<string, Shape & { stamp: string }>()
  private change: Change | undefined
  private removed = false

  constructor(
    private readonly host: Host,
    readonly name: string,
    private readonly reader: Reader<T>,
    /** Called when another configuration is in force than at the start. */
    private readonly onChange: () => void = () => undefined,
    private readonly watch: Watch = everySecond,
  ) {
    this.start()
    settings.push(this)
    watch.start(this)
  }

  /** 1 at the start, and one more each time another configuration is in force. */
  get generation(): number {
    return this.inForce
  }

  /** Called each second: reloads when the files differ from those judged last and have been quiet for a while. */
  async poll(): Promise<void> {
    if ([...this.stamps].every(([file, stamp]) => stampOf(file) === stamp)) {
      this.change = undefined
      return
    }
    const files = this.change?.files ?? new Set<string>()
    const signature = this.signature({ files })
    const now = this.watch.now()
    this.change ??= { since: now, signature, quietSince: now, files }
    if (signature !== this.change.signature) Object.assign(this.change, { signature, quietSince: now })
    const { since, quietSince } = this.change
    const isQuiet = now - quietSince >= QUIET_FOR
    if (!isQuiet && now - since < LONGEST_WAIT) return
    await this.reload(this.change, isQuiet)
  }

  /** Says that a reload has failed by an error of the program, whose message may hold anything of the file. */
  fail({ name, message }: Error): void {
    const why = holdsSecrets(this.name) ? name : message
    this.host.logerror(`config/relay-guard/${this.name} could not be read again: ${why}`)
  }

  private start(): void {
    const kept = lastGood(this.name)
    this.path = kept?.path ?? iniPath(harakaDir(), this.name)
    const files: Files = kept?.files ?? new Map()
    this.stamps = kept?.stamps ?? this.firstStamps()
    const reading = readingOf(this.name, this.path, files, {
      frozen: kept !== undefined,
      stamps: this.stamps,
    })
    const value = this.reader.read(reading)
    if (reading.errors.length > 0) {
      refuseStart(this.host, reading.errors)
      return
    }
    this.accept(value, this.path, files)
    if (cluster.isPrimary) this.tellUnreadable(files)
  }

  /** Read as root at the start, and never again once Haraka goes on as another user. */
  private tellUnreadable(files: Files): void {
    const user = otherUser(this.host)
    if (user === undefined) return
    for (const file of files.keys()) {
      try {
        asOtherUser(this.host, () => readWhole(file))
      } catch (error) {
        const why = (error as Error).message
        this.host.logerror(
          `${file} cannot be read by ${user}, as whom Haraka goes on: a change of it is in force only after a restart (${why})`,
        )
      }
    }
  }

  private async reload(change: Change, isQuiet: boolean): Promise<void> {
    const files: Files = new Map()
    const stamps = this.firstStamps()
    const isAway = stamps.get(this.own) === 'missing'
    if (isAway && this.path === this.own) return this.keepRemoved()
    const path = isAway ? this.path : this.own
    const readFile = (file: string) => asOtherUser(this.host, () => readWhole(file))
    const reading = readingOf(this.name, path, files, { stamps, readFile, inForce: this.goodAt(path) })
    let value: T
    try {
      value = await (this.reader.sliced?.(reading) ?? this.reader.read(reading))
    } catch (error) {
      this.judged(stamps)
      throw error
    }
    if (this.waitsForMore(change, stamps)) return
    if (reading.unfinished && this.mayBeFinishedSoon(change, isQuiet)) return
    this.judged(stamps)
    if (reading.errors.length > 0) {
      this.complain(reading.errors)
      return
    }
    if (this.accept(value, path, files)) this.onChange()
    this.host.lognotice(`config/relay-guard/${this.name} was read again and is in force (${this.hash})`)
  }

  /** The files in force, the ini file under the path that it has now: the operator's may take the default's place. */
  private goodAt(path: string): ReadonlyMap<string, Shape> {
    const ini = this.good.get(this.path)
    return ini ? new Map([...this.good, [path, ini]]) : this.good
  }

  private judged(stamps: Stamps): void {
    this.stamps = stamps
    this.change = undefined
    this.removed = false
  }

  /** A file that nobody has watched yet, as it is named for the first time, has to be quiet for a while, too. */
  private waitsForMore(change: Change, stamps: Stamps): boolean {
    const isWatched = (file: string, stamp: string) =>
      this.stamps.has(file) || change.files.has(file) || this.good.get(file)?.stamp === stamp
    const more = [...stamps].filter(([file, stamp]) => !isWatched(file, stamp)).map(([file]) => file)
    const now = this.watch.now()
    if (more.length === 0 || now - change.since >= LONGEST_WAIT) return false
    for (const file of more) change.files.add(file)
    change.signature = this.signature(change)
    change.quietSince = now
    return true
  }

  private mayBeFinishedSoon(change: Change, wasQuiet: boolean): boolean {
    const isQuiet = wasQuiet && this.signature(change) === change.signature
    return !isQuiet && this.watch.now() - change.since < LONGEST_TRIES
  }

  private signature({ files }: Pick<Change, 'files'>): string {
    return [...new Set([...this.stamps.keys(), ...files])].map(stampOf).join(' ')
  }

  /** An rm by mistake is not to turn all mail away, and what the defaults would say is not what was meant. */
  private keepRemoved(): void {
    const isNews = !this.removed
    this.judged(new Map([...this.stamps.keys()].map((file) => [file, stampOf(file)])))
    this.removed = true
    if (isNews && cluster.isPrimary)
      this.host.logerror(
        `config/relay-guard/${this.name} was removed; what it said stays in force until Haraka is restarted`,
      )
  }

  /** Puts it in force. False where it is what was in force before. */
  private accept(value: T, path: string, files: Files): boolean {
    const hash = createHash('sha256')
    for (const [file, data] of files) hash.update(`${file}\0${data.length}\0`).update(data)
    const digest = hash.digest('hex').slice(0, 12)
    this.good = new Map(
      [...files].map(([file, data]) => [file, { ...shapeOf(data), stamp: this.stamps.get(file) ?? '' }]),
    )
    this.path = path
    keep(this.host, this.name, { path, files, stamps: this.stamps })
    if (digest === this.hash) return false
    this.value = value
    this.hash = digest
    this.inForce++
    return true
  }

  /** Once a server: the master reads what its workers read. */
  private complain(errors: ConfigError[]): void {
    if (!cluster.isPrimary) return
    for (const error of errors) this.host.logerror(printConfigError(error))
    this.host.logerror(
      `config/relay-guard/${this.name} has errors (${errors.length}); the last good configuration stays in force`,
    )
  }

  private get own(): string {
    return ownPath(harakaDir(), this.name)
  }

  /** The operator's file is watched also where the default is in force. */
  private firstStamps(): Stamps {
    return new Map([[this.own, stampOf(this.own)]])
  }
}

const settings: Setting<unknown>[] = []

/** A hash over all configurations in force in this process, 12 hexadecimal digits. */
export const configurationHash = (): string =>
  createHash('sha256')
    .update(settings.map((s) => `${s.name}:${s.hash}`).join())
    .digest('hex')
    .slice(0, 12)
