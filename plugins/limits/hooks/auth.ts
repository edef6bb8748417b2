// Hooks about logins.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Decision } from '../../../core/decision'
import {
  endAuthDialogue,
  hideLine,
  outcomeOf,
  readAuthLine,
  watchLogins,
  watchReplies,
} from '../../../core/haraka/auth-notes'
import { identityOf, partyOf } from '../../../core/haraka/party-of'
import { answer, guarded } from '../../../core/haraka/reply'
import type { Connection } from '../../../core/haraka/types'
import type { Party } from '../../../core/party'
import { attempting, loggedIn, loggingIn } from '../policy/failed-logins'
import { judge, type LimitVerdict } from '../policy/verdict'
import { ask, refuse } from './check'
import { PendingLogin } from './pending-logins'
import { runtime } from './runtime'
import { sessionOf } from './session'

/** Who finds no room only because of logins that are being checked tries again: after so long at first, ms, … */
const FIRST_WAIT = 20
/** … then after twice as long each time, up to this. */
const LONGEST_WAIT = 1000
/** So long, ms, a login may wait for room in all: less than a client waits for a reply. */
const PATIENCE = 20_000

/** Before each line of an AUTH dialogue. A line that holds a password goes on only if one more login may fail. */
export const auth = guarded(async function (this, next, connection, words: string[]) {
  const line = readAuthLine(connection, words)
  if (!line) return next()
  const session = sessionOf(connection)
  if (line.begins) {
    watch(connection)
    delete session.attempt
    delete session.login
  }
  if (line.nameless) {
    endAuthDialogue(connection)
    return answer(this, next, connection, NAMELESS)
  }
  if (line.user !== undefined) session.attempt = identityOf(line.user)
  if (!line.proves) return next()
  const user = session.attempt
  const admitted = await admit(connection, { ...partyOf(connection), ...(user !== undefined && { user }) })
  if (admitted instanceof PendingLogin) {
    session.login = admitted
    // Nobody looks at the password of a client that has left.
    if (connection.remote.closed) admitted.settle('cannot tell')
    watchReplies(connection, (code) => {
      admitted.settle(outcomeOf(line.mechanism, code))
      return true
    })
    return next()
  }
  if (admitted.refusal) hideLine(words)
  if (!refuse(this, next, connection, admitted, user === undefined ? {} : { user })) return next()
  endAuthDialogue(connection)
})

const NAMELESS: Decision = {
  outcome: 'auth.malformed',
  code: 501,
  status: '5.5.2',
  text: 'The user name is missing',
  rule: { file: 'RFC 4954', section: '4', key: '' },
}

/** The login that may be tried now, or why it may not. */
async function admit(connection: Connection, party: Party): Promise<PendingLogin | LimitVerdict> {
  const until = performance.now() + PATIENCE
  for (let wait = FIRST_WAIT; ; wait = Math.min(2 * wait, LONGEST_WAIT)) {
    const config = runtime.limits.value
    const failed = loggingIn(config, party)
    const counted = await ask('dry-run', failed)
    const verdict = counted && judge(config, failed, counted)
    if (verdict?.refusal) return verdict
    const known = verdict?.known ?? false
    const attempt = attempting(config, party, known)
    const held = await ask('check', attempt)
    if (!held || held.allowed) return new PendingLogin(party, known, held)
    const { refusal, ...full } = judge(config, attempt, held)
    const isOver = held.refusals.some(({ kind }) => kind === 'block') || performance.now() + wait > until
    if (refusal && (isOver || connection.remote.closed))
      return { ...full, refusal: { ...refusal, wait: LONGEST_WAIT } }
    await sleep(wait, undefined, { ref: false })
  }
}

/** Auth plugins other than ours tell nobody whether a login failed: they write notes, and reply. */
function watch(connection: Connection): void {
  const session = sessionOf(connection)
  watchLogins(
    connection,
    () => session.login?.settle('wrong'),
    (user) => void ask('charge', loggedIn({ ...partyOf(connection), user: identityOf(user) })),
  )
}
