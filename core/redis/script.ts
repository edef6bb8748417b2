// The Lua scripts, and how they are called: EVALSHA by hand, because the number of keys differs from call to call.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Client, gatherWrites } from './connection'

/** A Lua script, and the hash by which Redis knows it. */
export interface Script {
  name: string
  source: string
  sha: string
}

/** Reads NAME.lua in `folder`. Throws what `readFileSync` throws. */
export function loadScript(folder: string, name: string): Script {
  const source = readFileSync(join(folder, `${name}.lua`), 'utf8')
  return { name, source, sha: createHash('sha1').update(source).digest('hex') }
}

/** Runs a script by its hash; a server that does not know it (new, restarted, SCRIPT FLUSH) is sent the source. */
export async function run(
  client: Client,
  { source, sha }: Script,
  keys: string[],
  args: (string | number)[],
): Promise<unknown> {
  gatherWrites(client)
  // One array: there is no room on the stack for as many arguments as a step may have keys.
  const all = (script: string) => [script, keys.length, ...keys, ...args]
  try {
    return await client.call('evalsha', all(sha))
  } catch (error) {
    if (!(error instanceof Error && error.message.startsWith('NOSCRIPT'))) throw error
    return client.call('eval', all(source))
  }
}
