// One reading of an ini file and of the files that it names.
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { packageDir } from '../paths'
import type { Files, Stamps } from './last-good'
import { type ConfigError, type IniSection, parseIni } from './parse'

/** What a reader gets: the sections of its file, where to put errors, and the way to other files. */
export interface Reading {
  sections: IniSection[]
  errors: ConfigError[]
  /** Another file that belongs to this configuration, watched like the ini file. Throws what `readFileSync` throws. */
  open(path: string): Buffer
}

/** Turns sections into a configuration, or pushes errors; `sliced` does the same without blocking (a large reload). */
export interface Reader<T> {
  read(reading: Reading): T
  sliced?(reading: Reading): Promise<T>
}

export function stampOf(file: string): string {
  try {
    const stat = statSync(file, { throwIfNoEntry: false })
    return stat ? `${stat.ino}:${stat.size}:${stat.mtimeMs}` : 'missing'
  } catch (error) {
    return String(error)
  }
}

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
  const errors: ConfigError[] = []
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
    sections = parseIni(name, open(path).toString('utf8'), errors)
  } catch (error) {
    errors.push({ file: name, section: '', key: '', text: `cannot be read: ${(error as Error).message}` })
  }
  return { sections, errors, open }
}
