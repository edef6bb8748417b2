// The first line of ours in Haraka's log: who runs where, and what is in force. One a server, at level notice.
import { insidesOf } from './haraka/supported'
import type { Next, Plugin } from './haraka/types'
import { packageVersion } from './paths'
import { registry } from './registry'
import { printRedis } from './services'

/** `1 domain`, `2 domains`: for the parts of the line. */
export const counted = (count: number, one: string, many = `${one}s`): string =>
  `${count} ${count === 1 ? one : many}`

/** Handler of init_master, when all plugins are loaded: `relay-guard 0.1.0 on Haraka 3.3.4, Node 20.20.2: 12 domains, …`. */
export function tellStart(this: Plugin, next: Next): void {
  const { version } = insidesOf(this).file('package.json') as { version: string }
  const { domains, acl, auth, limits, overload } = registry.inForce
  const parts = [domains, acl, auth, limits, overload].flatMap((part) => (part ? [part()] : []))
  const where = `Haraka ${version}, Node ${process.versions.node}`
  this.lognotice(`relay-guard ${packageVersion()} on ${where}: ${[...parts, printRedis()].join(', ')}`)
  next()
}
