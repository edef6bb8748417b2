// Hooks about the client itself: its connections.

import { partyOf } from '../../../core/haraka/party-of'
import { guarded } from '../../../core/haraka/reply'
import type { Connection, Next, Plugin } from '../../../core/haraka/types'
import type { Limiter } from '../../../core/limiter'
import { services } from '../../../core/services'
import { connecting, stepOf } from '../policy/plan'
import { blocksOf, judge } from '../policy/verdict'
import { refuse } from './check'
import { settle } from './recipient-outcome'
import { runtime } from './runtime'
import { sessionOf } from './session'

const subjectOf = ({ uuid, remote }: Connection): string => `${uuid} ${remote.ip} ${remote.port}`

/**
 * At lookup_rdns, before DNS is asked, and at connect, where XCLIENT may come in. A refused client costs no more than
 * this: from memory, where it was refused before.
 */
export const count_connection = guarded(async function (this, next, connection) {
  const session = sessionOf(connection)
  const { limiter } = services
  if (!limiter || session.counted === subjectOf(connection)) return next()
  if (session.lease) limiter.release(session.lease)
  session.counted = subjectOf(connection)
  session.lease = `${limiter.node}/${connection.uuid}`
  const plan = connecting(runtime.limits.value, partyOf(connection), session.lease)
  const { charges, leases } = stepOf(plan)
  const said = await limiter.check(charges, leases)
  const remembered = said.source === 'remembered'
  if (!remembered) block(limiter, blocksOf(plan, said))
  const verdict = judge(runtime.limits.value, plan, said)
  if (refuse(this, next, connection, verdict, {}, remembered)) return
  next()
})

/** Nobody waits for it: where it fails, the next refusal sets it. */
function block(limiter: Limiter, blocks: ReturnType<typeof blocksOf>): void {
  for (const { ms, reason, ...subject } of blocks) limiter.block(subject, ms, reason).catch(() => undefined)
}

export function disconnect(this: Plugin, next: Next, connection: Connection): void {
  const session = sessionOf(connection)
  void settle(connection)
  if (session.lease) {
    services.limiter?.release(session.lease)
    session.lease = ''
  }
  next()
}
