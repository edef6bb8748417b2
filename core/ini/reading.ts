// One reading of an ini file and of the files that it names.
import { join } from 'node:path'
import { harakaPath, packageDir } from '../paths'
import { FileError, isAbsent, readWhole, type Shape, shapeOf, stampOf } from './files'
import { type ConfigError, type IniSection, parseIni } from './parse'

/** What was read, by path. */
export type Files = Map<string, Buffer>
/** How each file was just before it was opened, by path. */
export type Stamps = Map<string, string>

/** What a reader gets: the sections of its file, where to put errors, and the way to other files. */
export interface Reading {
  sections: IniSection[]
  errors: ConfigError[]
  /**
   * Another file that belongs to this configuration, watched like the ini file; a relative path begins at Haraka's
   * directory. Throws FileError, whose message ends
   * a config error: for a file that cannot be read, and for one that is empty or cut where the last good one was not.
   */
  open(path: string): Buffer
}

/** Turns sections into a configuration, or pushes errors; `sliced` does the same without blocking (a large reload). */
export interface Reader<T> {
  read(reading: Reading): T
  sliced?(reading: Reading): Promise<T>
}

/** The operator's file `config/relay-guard/NAME`. */
export const ownPath = (dir: string, name: string): string => join(dir, 'config', 'relay-guard', name)

/** The file in force for `config/relay-guard/NAME`: the operator's, or where there is none the package's default. */
export function iniPath(dir: string, name: string): string {
  const own = ownPath(dir, name)
  return isAbsent(own) ? join(packageDir, 'config', 'relay-guard', name) : own
}

/** How to read. */
export interface ReadingOptions {
  /** The files come filled, and nothing else is read. */
  frozen?: boolean
  /** Collects how each file was just before it was opened, also one that then could not be read. */
  stamps?: Stamps
  /** Reads a file, if not with the rights of this process: see ./run-as. */
  readFile?: (path: string) => Buffer
  /** The files of the configuration in force. */
  inForce?: ReadonlyMap<string, Shape>
}

/** Of a file that an ini file names. */
export const EMPTY = 'is empty; a file that is meant to say nothing holds a comment'
const CUT = 'the last line has no line end; is the file still being written?'

/** A reading, and whether a file seemed to be in the middle of being written. */
export interface TrackedReading extends Reading {
  unfinished: boolean
}

/** Reads `path` for a reader. `files` collects what was read. Errors go to the reading's list; it does not throw. */
export function readingOf(
  name: string,
  path: string,
  files: Files,
  { frozen = false, stamps, readFile = readWhole, inForce }: ReadingOptions = {},
): TrackedReading {
  const fail = (message: string, state?: 'missing' | 'unfinished'): never => {
    if (state === 'unfinished') reading.unfinished = true
    throw new FileError(message, state)
  }
  const load = (file: string): Buffer => {
    const known = files.get(file)
    if (known) return known
    if (frozen) return fail('cannot be read: it is not in the last good configuration', 'missing')
    stamps?.set(file, stampOf(file))
    let data: Buffer
    try {
      data = readFile(file)
    } catch (error) {
      const { message, state } = error as FileError
      // One that was there is not missed in silence: what it said may be what keeps strangers out.
      return fail(message, state === 'missing' && inForce?.has(file) ? undefined : state)
    }
    files.set(file, data)
    return data
  }
  const isCut = (file: string, data: Buffer) =>
    Boolean(inForce?.get(file)?.endsInALine) && !shapeOf(data).endsInALine
  const open = (named: string): Buffer => {
    const file = harakaPath(named)
    const data = load(file)
    if (inForce?.get(file)?.empty === false && shapeOf(data).empty) return fail(EMPTY, 'unfinished')
    return isCut(file, data) ? fail(CUT, 'unfinished') : data
  }
  const reading: TrackedReading = { sections: [], errors: [], open, unfinished: false }
  const wrong = (text: string) => reading.errors.push({ file: name, section: '', key: '', text })
  try {
    const data = load(path)
    reading.sections = parseIni(name, data.toString('utf8'), reading.errors)
    if (shapeOf(data).empty) reading.unfinished = true
    else if (isCut(path, data)) {
      reading.unfinished = true
      wrong(CUT)
    }
  } catch (error) {
    wrong((error as Error).message)
  }
  return reading
}
