// The hook at MAIL: messages, and a SIZE that does not fit.

import { partyOf } from '../../../core/haraka/party-of'
import { guarded } from '../../../core/haraka/reply'
import type { Connection, HarakaAddress } from '../../../core/haraka/types'
import { mailing, withLook } from '../policy/plan'
import { judge, type LimitVerdict } from '../policy/verdict'
import { ask, refuse } from './check'
import { settle, shutOut } from './recipient-outcome'
import { runtime } from './runtime'
import { sessionOf } from './session'

/** After SPF has spoken, which tells whether MAIL FROM can be believed. */
export const count_message = guarded(async function (
  this,
  next,
  connection,
  params: [HarakaAddress, Record<string, string | null>],
) {
  // Not awaited: what it sends reaches the store before the check does.
  void settle(connection)
  const size = Number(params[1]?.['SIZE']) || 0
  const verdict = await countMessage(connection, size)
  if (verdict && refuse(this, next, connection, verdict)) return
  next()
})

/**
 * Charges a message and looks at whether another refused recipient would be too many, in one step. `size`: bytes as given
 * with MAIL. Undefined where nothing is counted.
 */
export async function countMessage(connection: Connection, size = 0): Promise<LimitVerdict | undefined> {
  const config = runtime.limits.value
  const party = partyOf(connection)
  const plan = withLook(config, party, mailing(config, party, size))
  const said = await ask('check', plan)
  if (!said || said.allowed) sessionOf(connection).message = connection.transaction?.uuid
  if (said?.allowed) shutOut(connection, plan, said)
  return said && judge(config, plan, said)
}
