// relay-guard install: the ini files in place, and what to write into config/plugins.

import { constants, copyFileSync, existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { packageDir } from '../core/paths'
import type { Call } from './call'
import { harakaAt, pluginLines } from './haraka-dir'
import { pluginWarnings } from './plugin-lines'

export async function install({ dir, json, print }: Call): Promise<0 | 1> {
  harakaAt(dir)
  const from = join(packageDir, 'config', 'relay-guard')
  const to = join(dir, 'config', 'relay-guard')
  mkdirSync(to, { recursive: true })
  const files = readdirSync(from).filter((file) => file.endsWith('.ini'))
  const copied = files.filter((file) => !existsSync(join(to, file)))
  for (const file of copied) copyFileSync(join(from, file), join(to, file), constants.COPYFILE_EXCL)

  const lines = pluginLines(dir)
  const all = readdirSync(join(packageDir, 'plugins')).map((name) => `relay-guard/${name}`)
  const missing = all.filter((line) => !lines.includes(line))
  const warnings = pluginWarnings(lines)
  if (json) {
    print(JSON.stringify({ copied, kept: files.filter((file) => !copied.includes(file)), missing, warnings }))
    return 0
  }
  for (const file of files)
    print(`config/relay-guard/${file}: ${copied.includes(file) ? 'put in place' : 'there already, kept'}`)
  if (missing.length === 0)
    print('config/plugins: all lines are there; their order among each other does not matter')
  else
    print(
      `config/plugins: add these lines, in any order, before other plugins:\n\n${missing.map((line) => `  ${line}`).join('\n')}\n`,
    )
  for (const warning of warnings) print(`warning: ${warning}`)
  print('Then edit config/relay-guard/domains.ini and acl.ini, and run: npx relay-guard check')
  return 0
}
