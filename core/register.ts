// How each plugin of the bundle begins and ends.
import { takeOverDiskWrites } from './haraka/disk-writes'
import { guardListener } from './haraka/early-refusal'
import { takeOverRelaying } from './haraka/relaying'
import { keepDenial } from './haraka/shared-hooks'
import { expectSpf } from './haraka/spf-result'
import { insidesOf, requireSupported } from './haraka/supported'
import type { Next, Plugin } from './haraka/types'
import { type HeaderParser, setHeaderParser } from './header-address'
import { hooksOf } from './hook-order'
import { failStartOnErrors, StartError } from './ini/start-errors'
import { countConnections, startServices, stopServices } from './services'
import { tellStart } from './start-line'

const shared = {
  tell_start: tellStart,
  guard_listeners(next: Next, { listeners }: { listeners: unknown[] }): void {
    for (const server of listeners) {
      countConnections(server)
      guardListener(server)
    }
    next()
  },
  keep_denial: keepDenial,
}

const registered = new Set<string>()

/**
 * Comes first in each plugin's `register`: what all plugins of the bundle need, brought by the first one that loads.
 * Throws Error, with one sentence, where this Haraka is not one that we support: nothing of ours is registered then.
 */
export function prepare(plugin: Plugin): void {
  requireLine(plugin)
  if (registered.size === 0) {
    requireSupported(plugin)
    const { parseHeader } = insidesOf(plugin).package('@haraka/email-address') as {
      parseHeader: HeaderParser
    }
    setHeaderParser(parseHeader)
    takeOverRelaying(plugin)
    expectSpf(plugin)
    takeOverDiskWrites(plugin)
    Object.assign(plugin, shared)
    registerRows(plugin, 'shared')
  }
  registered.add(plugin.name)
  startServices(plugin)
}

/** A name that is none of ours would register no hook, and a line given twice would count everything twice. Throws Error. */
function requireLine({ name }: Plugin): void {
  const line = `relay-guard/${name
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .at(-1)}`
  if (hooksOf(name).length === 0)
    throw new StartError(`config/plugins: ${name} is no line of ours; write ${line}`)
  if (registered.has(name))
    throw new StartError(`config/plugins: ${name} is there twice; take one of the lines out`)
}

/** Comes last: the plugin's rows of core/hook-order.ts. Throws Error where an ini file has errors. */
export function registerHooks(plugin: Plugin): void {
  registerRows(plugin, plugin.name)
  failStartOnErrors(plugin)
}

/** Each plugin's `shutdown`. */
export const shutdownPlugin = (): void => stopServices()

function registerRows(plugin: Plugin, rows: string): void {
  for (const { hook, method, priority } of hooksOf(rows)) plugin.register_hook(hook, method, priority)
}
