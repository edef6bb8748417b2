// Hooks about logins.

import type { Decision } from '../../../core/decision'
import { endAuthDialogue, hideLine, readAuthLine, watchLogins } from '../../../core/haraka/auth-notes'
import { identityOf, partyOf } from '../../../core/haraka/party-of'
import { answer, guarded } from '../../../core/haraka/reply'
import type { Connection } from '../../../core/haraka/types'
import { services } from '../../../core/services'
import { failedLogin, loggedIn, loggingIn } from '../policy/failed-logins'
import { stepOf } from '../policy/plan'
import { judge } from '../policy/verdict'
import { ask, refuse } from './check'
import { Guess } from './pending-logins'
import { runtime } from './runtime'
import { sessionOf } from './session'

/** Haraka tells nobody whether a login failed: its auth plugins write notes. */
function watch(connection: Connection): void {
  const session = sessionOf(connection)
  watchLogins(
    connection,
    () => {
      const party = { ...partyOf(connection), ...(session.attempt && { user: session.attempt }) }
      void services.limiter?.charge(stepOf(failedLogin(runtime.limits.value, party, session.known)).charges)
      // What is asked from now on is asked after this was counted.
      session.guess?.end()
    },
    (user) => {
      session.guess?.end()
      const party = { ...partyOf(connection), user: identityOf(user) }
      void services.limiter?.charge(stepOf(loggedIn(party)).charges)
    },
  )
}

const NAMELESS: Decision = {
  outcome: 'auth.malformed',
  code: 501,
  status: '5.5.2',
  text: 'The user name is missing',
  rule: { file: 'RFC 4954', section: '4', key: '' },
}

/** Before each line of an AUTH dialogue, so that a password is not even looked at. */
export const auth = guarded(async function (this, next, connection, words: string[]) {
  const line = readAuthLine(connection, words)
  if (!line) return next()
  if (line.nameless) {
    endAuthDialogue(connection)
    return answer(this, next, connection, NAMELESS)
  }
  const session = sessionOf(connection)
  const name = line.user
  if (line.begins) {
    watch(connection)
    session.guess?.end()
    delete session.attempt
    session.known = false
  }
  // Without a name (AUTH LOGIN) the client alone would be judged, and a user refused for what others did beside him.
  if (name === undefined || identityOf(name) === session.attempt) return next()
  const user = identityOf(name)
  session.attempt = user
  const plan = loggingIn(runtime.limits.value, { ...partyOf(connection), user })
  session.guess?.end()
  const guess = new Guess(plan.counts)
  session.guess = guess
  const said = await ask('dry-run', plan)
  if (!said) return next()
  const verdict = judge(runtime.limits.value, plan, guess.weigh(plan.counts, said))
  session.known = verdict.known
  guess.narrow(verdict.known)
  if (verdict.refusal) hideLine(words)
  if (!refuse(this, next, connection, verdict, { user })) return next()
  guess.end()
  endAuthDialogue(connection)
})
