// The master keeps what it last found good where the workers that it forks find it, so that a worker forked again
// while a file is broken goes on with that instead of failing, and being forked again, without end.
import cluster from 'node:cluster'
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { deserialize, serialize } from 'node:v8'
import type { Plugin } from '../haraka/types'

const LAST_GOOD = 'RELAY_GUARD_LAST_GOOD'

/** What was read, by path. */
export type Files = Map<string, Buffer>
/** How each watched file was just before it was opened, in an order of their own. */
export type Stamps = Map<string, string>

interface Kept {
  path: string
  files: Files
  stamps: Stamps
}

/** Kept where there are workers. Where it cannot be written the server goes on: only a worker forked again would miss it. */
export function keep(plugin: Plugin, name: string, kept: Kept): void {
  const smtp = plugin.config.get('smtp.ini') as { main?: { nodes?: unknown } } | undefined
  if (!cluster.isPrimary || smtp?.main?.nodes === 0) return
  try {
    const target = join(process.env[LAST_GOOD] ?? makeKeep(), name)
    writeFileSync(`${target}.new`, serialize(kept), { mode: 0o600 })
    renameSync(`${target}.new`, target)
  } catch (error) {
    plugin.logerror(`config/relay-guard/${name} could not be kept for workers: ${(error as Error).message}`)
  }
}

function makeKeep(): string {
  const dir = mkdtempSync(join(tmpdir(), 'relay-guard-'))
  process.env[LAST_GOOD] = dir
  process.once('exit', () => rmSync(dir, { recursive: true, force: true }))
  return dir
}

/** What the master kept, for a worker; undefined elsewhere. */
export function lastGood(name: string): Kept | undefined {
  const dir = process.env[LAST_GOOD]
  if (cluster.isPrimary || !dir) return undefined
  try {
    const kept = deserialize(readFileSync(join(dir, name))) as Kept
    for (const [file, data] of kept.files) kept.files.set(file, Buffer.from(data))
    return kept
  } catch {
    return undefined
  }
}
