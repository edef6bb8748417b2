// The user as whom Haraka goes on once it listens (smtp.ini `user` and `group`), where it was started as root.
import type { Host } from './host'

type Name = string | number

/** smtp.ini's user, else its group; undefined where this process stays what it is, or is no root any more. */
export function otherUser({ config }: Host): Name | undefined {
  const { user, group } = named(config)
  return process.geteuid?.() === 0 ? user || group || undefined : undefined
}

function named(config: Host['config']): { user?: Name; group?: Name } {
  const smtp = config.get('smtp.ini') as { main?: { user?: Name; group?: Name } } | undefined
  return smtp?.main ?? {}
}

/**
 * Calls `read`, which must not wait for anything, with that user's rights, and returns what it returns. The master of
 * workers stays root: it would put in force what none of them can read. Throws what `read` throws, and Error where the
 * system does not know the user.
 */
export function asOtherUser<T>(host: Host, read: () => T): T {
  if (otherUser(host) === undefined) return read()
  const { user, group } = named(host.config)
  const gid = process.getegid?.() ?? 0
  try {
    // In Haraka's order: only root may change its group.
    if (group) process.setegid?.(group)
    if (user) process.seteuid?.(user)
    return read()
  } finally {
    process.seteuid?.(0)
    process.setegid?.(gid)
  }
}
