// Every assumption about Haraka's insides, as one list. None of these is promised by Haraka; each was read in its
// source, and is tried before the first connection. What needs a connection is tried on one without a network socket.
import { connectionAssumptions } from './connection'
import { loginAssumptions } from './login'
import { messageAssumptions } from './message'
import { pluginAssumptions } from './plugins'
import type { Assumption } from './presence'

/** All of them, in the order in which they are tried. */
export const assumptions: readonly Assumption[] = [
  ...pluginAssumptions,
  ...connectionAssumptions,
  ...messageAssumptions,
  ...loginAssumptions,
]
