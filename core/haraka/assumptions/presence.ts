// Assumptions that something is there: methods, hooks, values of a type.
import { HOOK_ORDER } from '../../hook-order'
import type { HarakaInsides } from '../types'

/** One thing that we rely on in Haraka's insides. */
export interface Assumption {
  /** Haraka's file that it is about. */
  where: string
  /** What is wrong where it does not hold, as the end of a sentence. */
  fault: string
  /** False, or an Error, where it does not hold. */
  holds(haraka: HarakaInsides): boolean
}

/** A property deep inside of what another program gave; undefined where any step is missing. */
function at(value: unknown, path: string): unknown {
  return path
    .split('.')
    .reduce((inner: unknown, key) => (inner as Record<string, unknown> | null)?.[key], value)
}

/** Finds what an assumption is about. May throw where it is not there. */
export type Find = (haraka: HarakaInsides) => unknown

/** One of Haraka's files, or what is at `path` in it. */
export const file =
  (name: string, path?: string): Find =>
  (haraka) =>
    path ? at(haraka.file(name), path) : haraka.file(name)

/** What all connections share. */
export const prototype = file('connection', 'Connection.prototype')

/** One assumption for each of these names, with spaces between them: `of` has a method of that name. */
export const methods = (where: string, what: string, of: Find, names: string): Assumption[] =>
  names.split(' ').map((name) => ({
    where,
    fault: `${what} has no method "${name}"`,
    holds: (haraka) => typeof at(of(haraka), name) === 'function',
  }))

/** Where Haraka runs a hook: all others belong to a connection. */
const HOOKS_ELSEWHERE: Record<string, [where: string, of: Find]> = {
  get_mx: ['outbound/hmail.js', file('outbound', 'HMailItem.prototype')],
  bounce: ['outbound/hmail.js', file('outbound', 'HMailItem.prototype')],
  init_master: ['server.js', file('server')],
  init_child: ['server.js', file('server')],
}

/** One assumption for each hook of ours: Haraka calls `HOOK_respond` after it. `deny` has none, and is tried by itself. */
export const hooks: Assumption[] = [...new Set(HOOK_ORDER.map(({ hook }) => hook))]
  .filter((hook) => hook !== 'deny')
  .map((hook) => {
    const [where, of] = HOOKS_ELSEWHERE[hook] ?? ['connection.js', prototype]
    return {
      where,
      fault: `there is no hook ${hook}`,
      holds: (haraka) => typeof at(of(haraka), `${hook}_respond`) === 'function',
    }
  })

/** One assumption for each path: what stands there is of this type ("array" for arrays). */
export const values = (where: string, what: string, of: Find, types: Record<string, string>): Assumption[] =>
  Object.entries(types).map(([path, type]) => ({
    where,
    fault: `${what} has no ${type} "${path}"`,
    holds: (haraka) => {
      const value = at(of(haraka), path)
      return Array.isArray(value) ? type === 'array' : typeof value === type
    },
  }))
