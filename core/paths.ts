// Where things are: Haraka's directory, and this package's.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Haraka's directory: the one that holds config/. */
export const harakaDir = (): string => process.env['HARAKA'] ?? '.'
export const packageDir = join(__dirname, '..')
export const packageVersion = (): string =>
  JSON.parse(readFileSync(join(packageDir, 'package.json'), 'utf8')).version
