// What the error of a command says of it. After a lost connection nobody knows whether it was run; after an answer
// of Redis, or where it was never sent, it was not.

import { clean } from '../text'

/** ioredis says so of what it never sent: without an offline queue, or on a Cluster no node of which is ready. */
const NEVER_SENT = [
  "Stream isn't writeable and enableOfflineQueue options is false",
  "Cluster isn't ready and enableOfflineQueue options is false",
  'Failed to refresh slots cache.',
  'Cluster is ended.',
  // By MOVED, ASK, TRYAGAIN, CLUSTERDOWN, or to nodes that were not connected; what was lost under way is told otherwise.
  'Too many Cluster redirections.',
]

/** Redis has answered with an error, as `ReplyError: OOM command not allowed …`. */
const isReply = (error: unknown): boolean => error instanceof Error && error.name === 'ReplyError'

/** True where Redis did nothing of the command, which may so be tried again. False where that cannot be told. */
export const wasNotRun = (error: unknown): boolean =>
  isReply(error) ||
  (error instanceof Error && NEVER_SENT.some((beginning) => error.message.startsWith(beginning)))

/** True where it would fail the same way for ever: the key holds something else, which is left as it is. */
export const isForGood = (error: unknown): boolean =>
  isReply(error) && /WRONGTYPE|not an integer|not a valid float|would overflow/.test((error as Error).message)

/**
 * An error of ioredis, of Redis or of the system as it may be printed, in one line: without what stands before an `@`,
 * which could be a password that was written where a server is named.
 */
export function printError(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error)
  return clean(text.replace(/[^\s"'()]*@/g, '…@'), 400)
}
