// Whether this bundle runs on this Haraka: tried once, before anything relies on it.
import { createRequire } from 'node:module'
import { StartError } from '../ini/start-errors'
import { assumptions } from './assumptions'
import type { Assumption } from './assumptions/presence'
import type { HarakaInsides, Plugin } from './types'

/** The first version whose addresses are those of @haraka/email-address, and the last minor version that is tested. */
export const OLDEST = [3, 2] as const
const NEWEST_TESTED = [3, 3] as const

/** Throws Error, with a message of one sentence, where this Haraka is too old or not built as we rely on. */
export function requireSupported(plugin: Plugin, tried: readonly Assumption[] = assumptions): void {
  const haraka = insidesOf(plugin)
  const { version } = haraka.file('package.json') as { version: string }
  if (isBefore(version, OLDEST))
    throw new StartError(`relay-guard needs Haraka ${OLDEST.join('.')}.0 or later; this is ${version}`)
  for (const { where, fault, holds } of tried) {
    const error = failure(() => holds(haraka))
    if (error !== undefined)
      throw new StartError(`relay-guard does not fit this Haraka ${version}: ${where}: ${fault}${error}`)
  }
  if (isBefore(NEWEST_TESTED.join('.'), versionOf(version)))
    plugin.lognotice(
      `Haraka ${version} is newer than ${NEWEST_TESTED.join('.')}, the last one that relay-guard was tested with; all that it relies on is there`,
    )
}

/** Haraka's files and packages as the running Haraka itself loads them. */
export function insidesOf(plugin: Plugin): HarakaInsides {
  return {
    plugin,
    file: (name) => plugin.haraka_require(name),
    package: (name) => requireOf(plugin)(name),
  }
}

/** `require` as one of Haraka's own files has it: its packages may be where ours cannot see them. */
function requireOf(plugin: Plugin): NodeJS.Require {
  const logger = plugin.haraka_require('logger')
  const loaded = Object.values(require.cache).find((module) => module?.exports === logger)
  if (!loaded) throw new Error('logger.js of Haraka is not among the loaded modules')
  return createRequire(loaded.filename)
}

/** Undefined where it holds; else what went wrong while it was tried, if anything is to be said of it. */
function failure(holds: () => boolean): string | undefined {
  try {
    return holds() ? undefined : ''
  } catch (error) {
    return ` (${(error as Error).message.split('\n')[0]})`
  }
}

const versionOf = (version: string): [number, number] => {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return [major, minor]
}

function isBefore(version: string, [major, minor]: readonly [number, number]): boolean {
  const [ownMajor, ownMinor] = versionOf(version)
  return ownMajor < major || (ownMajor === major && ownMinor < minor)
}
