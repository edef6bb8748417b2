// relay-guard/auth: who logs in does it over TLS, and sends as himself. See docs/auth.md.

import { plain } from '../../core/haraka/address'
import { endAuthDialogue, hideLine } from '../../core/haraka/auth-notes'
import { identityOf, partyOf } from '../../core/haraka/party-of'
import { userOf } from '../../core/haraka/relaying'
import { answer, guarded } from '../../core/haraka/reply'
import type { Connection, HarakaAddress, Next, Plugin } from '../../core/haraka/types'
import { Setting } from '../../core/ini/reload'
import { prepare, registerHooks, shutdownPlugin } from '../../core/register'
import { registry } from '../../core/registry'
import { counted } from '../../core/start-line'
import { clean } from '../../core/text'
import { readAuth, usersGivenTwice } from './config'
import { MECHANISMS } from './dialogue'
import { identity } from './identity'
import { loginHolds } from './login'
import {
  CANCELLED,
  isProtected,
  NO_MECHANISM,
  notYours,
  ownsSender,
  refuseAuth,
  UNKNOWN_MECHANISM,
} from './policy'
import { realm, runtime } from './runtime'

export { check_login, give_up } from './login'

/** Reads auth.ini and registers the hooks. Throws Error where Haraka must not start. */
export function register(this: Plugin): void {
  prepare(this)
  runtime.auth = new Setting(this, 'auth.ini', {
    read: (reading) => readAuth(reading, registry.firstDomain?.()),
  })
  registry.usersGivenTwice = () =>
    runtime.auth.value ? usersGivenTwice(runtime.auth.value, registry.firstDomain?.()) : []
  registry.identity = (user) => identity(user, realm())
  registry.ownsSender = (user, sender) => ownsSender(runtime.auth.value, user, sender, realm())
  registry.loginHolds = loginHolds
  registry.inForce.auth = () => counted(runtime.auth.value.users.size, 'user')
  registerHooks(this)
}

/** Called by Haraka when it stops. */
export function shutdown(): void {
  shutdownPlugin()
}

const linkOf = ({ tls, remote }: Connection) => ({ tls: tls.enabled, ip: remote.ip })

/** Offers AUTH for [users]. */
export function offer_users(this: Plugin, next: Next, connection: Connection): void {
  const { value } = runtime.auth
  if (value.users.size > 0 && isProtected(value, linkOf(connection)))
    connection.capabilities?.push(`AUTH ${MECHANISMS.join(' ')}`)
  next()
}

/** Takes AUTH out of the EHLO answer where it would not be taken anyway. */
export function offer(this: Plugin, next: Next, connection: Connection): void {
  if (!isProtected(runtime.auth.value, linkOf(connection)))
    connection.capabilities = (connection.capabilities ?? []).filter((line) => !/^AUTH\b/i.test(line))
  next()
}

/** Refuses AUTH where it must not be spoken now, before any plugin looks at it. */
export const auth_command = guarded(function (this, next, connection, params: string[]) {
  const word = (params[0] ?? '').toUpperCase()
  const isOpen = connection.notes.authenticating === true
  if (word !== 'AUTH' && !isOpen) return next()
  if (word === '*' && isOpen) {
    endAuthDialogue(connection)
    return answer(this, next, connection, CANCELLED)
  }
  const refusal = refuseAuth(runtime.auth.value, partyOf(connection), connection.transaction !== null)
  if (!refusal) return next()
  endAuthDialogue(connection)
  hideLine(params)
  answer(this, next, connection, refusal)
})

/** Answers an AUTH that nobody took, where AUTH is offered: core would take it for no command. */
export const nobody_took_it = guarded(function (this, next, connection, [word = '', rest = '']: string[]) {
  const isOffered =
    runtime.auth.value.users.size > 0 || connection.notes['allowed_auth_methods'] !== undefined
  if (!/^AUTH$/i.test(word) || !isOffered) return next()
  answer(this, next, connection, rest === '' ? NO_MECHANISM : UNKNOWN_MECHANISM)
})

/** Refuses a MAIL FROM that is not one of the user's own addresses. */
export const own_sender = guarded(function (this, next, connection, params: [HarakaAddress]) {
  endAuthDialogue(connection)
  checkOwner.call(this, next, connection, params[0])
})

/** Again at each recipient and at DATA: another plugin may have let a login in, and a reload may have come. */
export const own_sender_again = guarded(function (this, next, connection) {
  checkOwner.call(this, next, connection, connection.transaction?.mail_from)
})

function checkOwner(
  this: Plugin,
  next: Next,
  connection: Connection,
  given: HarakaAddress | undefined,
): void {
  const login = userOf(connection)
  const user = login === undefined ? connection.notes.auth_user : identityOf(login)
  const sender = given && plain(given)
  const { value } = runtime.auth
  if (!user || !sender || ownsSender(value, user, sender, realm())) next()
  else answer(this, next, connection, notYours(value, clean(identity(user, realm()), 64), sender.address))
}
