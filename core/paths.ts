// Where things are: Haraka's directory, and this package's.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Haraka's directory: the one that holds config/. */
export const harakaDir = (): string => process.env['HARAKA'] ?? '.'
/** The folder of this package: it holds config/, docs/ and package.json. */
export const packageDir = join(__dirname, '..')
/** The version in this package's package.json. */
export const packageVersion = (): string =>
  JSON.parse(readFileSync(join(packageDir, 'package.json'), 'utf8')).version
