// Haraka's flag `connection.relaying` as a view of the right to relay, so that core, the queue, SPF, DKIM and delay_deny
// all read the same answer, whatever another plugin writes, in whatever order.
import type { Rule } from '../decision'
import { registry } from '../registry'
import { type Classification, type Client, mayRelay as isRight, maySubmit, relayRule } from '../relay-right'
import type { Connection, Plugin, Transaction } from './types'

interface State {
  /** Whom these rights were found for; XCLIENT and PROXY change it, and all starts afresh. */
  subject: Subject
  classification: Classification
  /** The generation of acl.ini that `classification` came from. */
  generation: number
  /** A right set outside of a transaction: by AUTH, or by another plugin for this client. */
  granted: boolean
  /** An attempt to set the right inside a transaction was logged. */
  ignored: boolean
  /** The next read of `relaying` is core's question at MAIL whether the client has logged in. */
  askedForLogin: boolean
}

interface Subject extends Client {
  uuid: string
  port: number
}

// On Haraka's own objects, under names that only this file has: the collector walks weak collections each time.
const STATE = Symbol('relay-guard state')
/** On a transaction for which another plugin took the right away: that counts. */
const REVOKED = Symbol('relay-guard revoked')

type WithState = Connection & { [STATE]?: State }
type Revocable = Transaction & { [REVOKED]?: true }

const NOBODY: Classification = { class: 'nobody' }

/**
 * Takes over `relaying` of Haraka's Connection, for all connections of this process; again it does nothing. A right that
 * is set inside a transaction (as the stock relay plugin's dest_domains does for one recipient) would hold for all
 * recipients after it: it does not count.
 */
export function takeOverRelaying(plugin: Plugin): void {
  const { Connection } = plugin.haraka_require('connection') as { Connection: { prototype: WithMail } }
  answerAtMail(Connection.prototype)
  Object.defineProperty(Connection.prototype, 'relaying', {
    configurable: true,
    get(this: Connection): boolean {
      const state = stateOf(this)
      if (!state.askedForLogin) return mayRelay(this)
      state.askedForLogin = false
      return true
    },
    set(this: Connection, value: unknown) {
      const state = stateOf(this)
      if (!this.transaction) state.granted = value === true
      else if (value === false) (this.transaction as Revocable)[REVOKED] = true
      else if (!state.ignored && !mayRelay(this)) {
        state.ignored = true
        this.lognotice('relay-guard: another plugin set relaying inside a transaction: ignored')
      }
    },
  })
}

type WithMail = Connection & { cmd_mail(line: string): void }
const answered = new WeakSet<object>()

/**
 * On ports 587 and 465 core's cmd_mail takes `relaying` for "has logged in", before any hook, and so refuses mail to our
 * domains, too, from a client in [never] that has. Exactly that read, the first one in cmd_mail, is answered by the login;
 * whatever reads it afterwards, hooks included, is told that the client may not relay.
 */
function answerAtMail(prototype: WithMail): void {
  if (answered.has(prototype)) return
  answered.add(prototype)
  const { cmd_mail } = prototype
  prototype.cmd_mail = function (line) {
    const state = stateOf(this)
    state.askedForLogin = maySubmit({ classification: state.classification, user: userOf(this) })
    try {
      cmd_mail.call(this, line)
    } finally {
      state.askedForLogin = false
    }
  }
}

/** True where this client may send mail to domains that are not ours. In doubt false. */
export function mayRelay(connection: Connection): boolean {
  const { classification, granted } = stateOf(connection)
  const transaction = connection.transaction as Revocable | null
  return isRight({ classification, granted, revoked: transaction?.[REVOKED] === true })
}

/** What acl.ini, as it is in force now, says of this client. */
export const classificationOf = (connection: Connection): Classification => stateOf(connection).classification

/** The user who logged in since the last XCLIENT or PROXY, as the client wrote the name; of a client in [never], too. */
export function userOf(connection: Connection): string | undefined {
  const { granted } = stateOf(connection)
  return granted && connection.notes.auth_user ? connection.notes.auth_user : undefined
}

/** Which line gives the right to relay. */
export const relayRuleOf = (connection: Connection): Rule =>
  relayRule(classificationOf(connection), userOf(connection))

/** Forgets login and rights, as after XCLIENT or PROXY: they were another client's. */
function forgetRights(connection: Connection): State {
  forgetLogin(connection)
  return begin(connection)
}

function forgetLogin(connection: Connection): void {
  delete connection.notes.auth_user
  connection.notes.authenticating = false
  connection.authheader = undefined
}

/** Finds the client's class anew where acl.ini has changed since; a login stays as long as [users] has it. */
function stateOf(connection: WithState): State {
  const state = connection[STATE]
  if (!state) return begin(connection)
  if (!isSame(state.subject, connection)) return forgetRights(connection)
  if (state.granted && registry.loginHolds?.(connection) === false) {
    state.granted = false
    forgetLogin(connection)
  }
  const { generation, classify } = registry.acl ?? NO_ACL
  if (state.generation === generation()) return state
  state.classification = classify(state.subject)
  state.generation = generation()
  return state
}

const NO_ACL = { generation: () => 0, classify: () => NOBODY }

const isSame = (subject: Subject, { uuid, remote, local }: Connection): boolean =>
  subject.ip === remote.ip &&
  subject.port === remote.port &&
  subject.uuid === uuid &&
  subject.localIp === local.ip &&
  subject.localPort === local.port

function begin(connection: WithState): State {
  const { uuid, remote, local } = connection
  const subject = { uuid, ip: remote.ip, port: remote.port, localIp: local.ip, localPort: local.port }
  const { generation, classify } = registry.acl ?? NO_ACL
  const state = {
    subject,
    classification: classify(subject),
    generation: generation(),
    granted: false,
    ignored: false,
    askedForLogin: false,
  }
  connection[STATE] = state
  return state
}
