// Haraka's directory, read as the server reads it.
import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseIni } from '../core/ini/parse'
import { linesOf } from '../core/lines'
import { ownListeners } from '../core/net/own-listeners'
import type { World } from '../plugins/domains/config'

/** From now on this is Haraka's directory for all that we share with the server. Throws Error where it is none. */
export function harakaAt(dir: string): void {
  if (!existsSync(join(dir, 'config', 'plugins'))) {
    throw new Error(`${dir} is not Haraka's directory (there is no config/plugins); name it with -c DIR`)
  }
  process.env['HARAKA'] = resolve(dir)
}

const read = (dir: string, file: string): string => {
  const path = join(dir, 'config', file)
  return existsSync(path) ? readFileSync(path, 'utf8') : ''
}

/**
 * The lines of config/plugins, without the prefix that Haraka drops too. As Haraka reads a list, a comment stands on a
 * line of its own: behind a name it is part of the name.
 */
export const pluginLines = (dir: string): string[] =>
  [...linesOf(read(dir, 'plugins'))]
    .map((line) => line.trim())
    .filter((line) => line !== '' && !/^[;#]/.test(line))
    .map((line) => line.replace(/^haraka-plugin-/, ''))

/** Where this Haraka listens, and its name. */
export function worldOf(dir: string): World {
  const smtp = parseIni('smtp.ini', read(dir, 'smtp.ini') || '[main]', [])
  const main = smtp.find(({ name }) => name === 'main')?.entries ?? []
  const values = Object.fromEntries(main.map(({ key, value }) => [key, value]))
  return { ownListener: ownListeners(values), hostName: read(dir, 'me').trim() || 'localhost' }
}
