// relay-guard/auth: who logs in does it over TLS, and sends as himself. See docs/auth.md.

import type { Decision } from '../../core/decision'
import { plain } from '../../core/haraka/address'
import { endAuthDialogue } from '../../core/haraka/auth-notes'
import { partyOf } from '../../core/haraka/party-of'
import { answer, guarded, record } from '../../core/haraka/reply'
import type { Connection, HarakaAddress, Next, Plugin } from '../../core/haraka/types'
import { Setting } from '../../core/ini/reload'
import { prepare, registerHooks, shutdownPlugin } from '../../core/register'
import { registry } from '../../core/registry'
import { clean } from '../../core/text'
import { type AuthConfig, readAuth } from './config'
import { identity, namesOf } from './identity'
import { verify } from './passwords'
import { isProtected, notYours, ownsSender, refuseAuth } from './policy'

let auth: Setting<AuthConfig>

const realm = (): string | undefined => auth.value.realm || registry.firstDomain?.()

export function register(this: Plugin & { inherits(name: string): void }): void {
  prepare(this)
  auth = new Setting(this, 'auth.ini', { read: readAuth })
  registry.identity = (user) => identity(user, realm())
  registry.ownsSender = (user, sender) => ownsSender(auth.value, user, sender, realm())
  this.inherits('auth/auth_base')
  registerHooks(this)
}

export function shutdown(): void {
  shutdownPlugin()
}

/** auth_base would keep the password in the connection's notes. */
export const blankout_password = true

/** Takes AUTH out of the EHLO answer where it would not be taken anyway. */
export function offer(this: Plugin, next: Next, connection: Connection): void {
  if (!isProtected(auth.value, partyOf(connection))) {
    connection.capabilities = (connection.capabilities ?? []).filter((line) => !/^AUTH\b/i.test(line))
  }
  next()
}

export const auth_command = guarded(function (this, next, connection, params: string[]) {
  const word = (params[0] ?? '').toUpperCase()
  const { notes } = connection
  if (word !== 'AUTH' && !notes.authenticating) return next()
  if (word === '*' && notes.authenticating) {
    endAuthDialogue(connection)
    return connection.respond(501, '5.7.0 AUTH was cancelled', () => next(OK))
  }
  const refusal = refuseAuth(auth.value, partyOf(connection), connection.transaction !== null)
  if (!refusal) return next()
  endAuthDialogue(connection)
  answer(this, next, connection, refusal)
})

export const own_sender = guarded(function (this, next, connection, params: [HarakaAddress]) {
  endAuthDialogue(connection)
  checkOwner.call(this, next, connection, params[0])
})

/** Again at each recipient: another plugin may have let a login in since MAIL. */
export const own_sender_again = guarded(function (this, next, connection) {
  checkOwner.call(this, next, connection, connection.transaction?.mail_from)
})

function checkOwner(
  this: Plugin,
  next: Next,
  connection: Connection,
  given: HarakaAddress | undefined,
): void {
  const sender = given && plain(given)
  const user = partyOf(connection).user ?? connection.notes.auth_user
  if (!user || !sender || ownsSender(auth.value, user, sender, realm())) next()
  else
    answer(this, next, connection, notYours(auth.value, clean(identity(user, realm()), 64), sender.address))
}

// [users]: passwords of our own, by way of Haraka's auth_base, which calls these.

export function hook_capabilities(this: Plugin, next: Next, connection: Connection): void {
  if (auth.value.users.size > 0 && isProtected(auth.value, partyOf(connection))) {
    connection.capabilities?.push('AUTH PLAIN LOGIN')
    connection.notes['allowed_auth_methods'] = ['PLAIN', 'LOGIN']
  }
  next()
}

type BasePlugin = Plugin & {
  base: Record<string, { hook_unrecognized_command: (...args: unknown[]) => void }>
}

/** auth_base's dialogue, but only over passwords of our own: other auth plugins speak for themselves. */
export function hook_unrecognized_command(
  this: BasePlugin,
  next: Next,
  connection: Connection,
  params: string[],
): void {
  if (auth.value.users.size === 0) next()
  else this.base['auth/auth_base']?.hook_unrecognized_command.call(this, next, connection, params)
}

type Checked = (valid: boolean, options?: { code: number; message: string }) => void

export function check_plain_passwd(
  this: Plugin,
  connection: Connection,
  name: string,
  password: string,
  done: Checked,
): void {
  const { users } = auth.value
  const known = namesOf(name, realm()).find((each) => users.has(each))
  const expected = known === undefined ? undefined : users.get(known)
  verify(password, expected).then(
    (right) => {
      if (!right) record(this, connection, FAILED, { user: clean(name, 64) })
      done(right)
    },
    (error: Error) => {
      connection.logerror(this, `login of ${clean(name, 64)} could not be checked: ${error.message}`)
      done(false, { code: 454, message: '4.7.0 Temporary authentication failure' })
    },
  )
}

const FAILED: Decision = {
  outcome: 'auth.failed',
  code: 535,
  status: '5.7.8',
  text: 'Authentication failed',
  rule: { file: 'auth.ini', section: 'users', key: '' },
}
