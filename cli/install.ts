// relay-guard install: the ini files in place, and what to write into config/plugins.

import {
  constants,
  copyFileSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  symlinkSync,
} from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { isAbsent } from '../core/ini/files'
import { packageDir } from '../core/paths'
import type { Call } from './call'
import { harakaAt, pluginLines } from './haraka-dir'
import { pluginWarnings } from './plugin-lines'

/** Where `haraka -c DIR -h relay-guard/acl` looks for documentation of that line. */
const DOCS = join('docs', 'plugins', 'relay-guard')

/** Overwrites nothing. Throws Error where `dir` is not Haraka's. */
export async function install({ dir, json, print }: Call): Promise<0 | 1> {
  harakaAt(dir)
  const from = join(packageDir, 'config', 'relay-guard')
  const to = join(dir, 'config', 'relay-guard')
  mkdirSync(to, { recursive: true })
  const files = readdirSync(from).filter((file) => file.endsWith('.ini'))
  const copied = files.filter((file) => isAbsent(join(to, file)))
  for (const file of copied) copyFileSync(join(from, file), join(to, file), constants.COPYFILE_EXCL)
  const linked = linkDocs(dir)

  const lines = pluginLines(dir)
  const all = readdirSync(join(packageDir, 'plugins')).map((name) => `relay-guard/${name}`)
  const missing = all.filter((line) => !lines.includes(line))
  const warnings = pluginWarnings(lines)
  if (json) {
    print(
      JSON.stringify({
        copied,
        kept: files.filter((file) => !copied.includes(file)),
        linked,
        missing,
        warnings,
      }),
    )
    return 0
  }
  for (const file of files)
    print(`config/relay-guard/${file}: ${copied.includes(file) ? 'put in place' : 'there already, kept'}`)
  print(`${DOCS}: ${linked ? 'put in place' : 'there already, kept'}`)
  if (missing.length === 0)
    print('config/plugins: all lines are there; where they stand in the file does not matter')
  else
    print(
      `config/plugins: add these lines, anywhere in the file and in any order:\n\n${missing.map((line) => `  ${line}`).join('\n')}\n`,
    )
  for (const warning of warnings) print(`warning: ${warning}`)
  print('Then edit config/relay-guard/domains.ini and acl.ini, and run: npx relay-guard check')
  return 0
}

/** A link, so that it shows the documentation of the version that is installed. False where something is there already. */
function linkDocs(dir: string): boolean {
  const link = join(dir, DOCS)
  if (lstatSync(link, { throwIfNoEntry: false })) return false
  mkdirSync(dirname(link), { recursive: true })
  symlinkSync(relative(realpathSync(dirname(link)), join(packageDir, 'docs')), link)
  return true
}
