// Where things are: Haraka's directory, and this package's.
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

/** Haraka's directory: the one that holds config/. */
export const harakaDir = (): string => process.env['HARAKA'] ?? '.'
/** The path of a file that an ini file names: a relative one begins at Haraka's directory, wherever Haraka was started. */
export const harakaPath = (path: string): string => resolve(harakaDir(), path)
/** The folder of this package: it holds config/, docs/ and package.json. */
export const packageDir = join(__dirname, '..')
/** The version in this package's package.json. */
export const packageVersion = (): string =>
  JSON.parse(readFileSync(join(packageDir, 'package.json'), 'utf8')).version
