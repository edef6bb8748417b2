// Who may relay: the one place that says so. Haraka's flag `connection.relaying` becomes a view of it, so that core,
// the queue, SPF, DKIM and delay_deny all read the same answer, whatever another plugin writes, in whatever order.
import type { Rule } from '../decision'
import type { Connection, Plugin, Transaction } from './types'

/** What the ACL says of a client. `nobody`: nothing in particular. */
export interface Classification {
  class: 'reject' | 'never' | 'relay' | 'nobody'
  rule?: Rule
  /** The operator's own words about the entry. */
  label?: string
}

export interface Client {
  ip: string
  /** After XCLIENT without DESTADDR and DESTPORT: undefined. */
  localIp: string | undefined
  localPort: number | undefined
}

interface State {
  /** What these rights were found for; XCLIENT and PROXY change it, and all starts afresh. */
  subject: Subject
  classification: Classification
  /** A right set from outside a transaction: by AUTH, or by another plugin for this client. */
  granted: boolean
  ignored: boolean
}

interface Subject extends Client {
  uuid: string
  port: number
}

const NOBODY: Classification = { class: 'nobody' }
const states = new WeakMap<Connection, State>()
let classify: (client: Client) => Classification = () => NOBODY

/** How the acl plugin makes itself known; without it every client is nobody in particular. */
export function setClassifier(classifier: (client: Client) => Classification): void {
  classify = classifier
}

/** Another plugin took the right away for one transaction: that counts. */
const revoked = new WeakSet<Transaction>()

/**
 * Takes over `relaying` of Haraka's Connection, for all connections of this process; again it does nothing. A right that
 * is set inside a transaction (as the stock relay plugin's dest_domains does for one recipient) would hold for all
 * recipients after it: it does not count.
 */
export function takeOverRelaying(plugin: Plugin): void {
  const { Connection } = plugin.haraka_require('connection') as { Connection: { prototype: Connection } }
  Object.defineProperty(Connection.prototype, 'relaying', {
    configurable: true,
    get(this: Connection): boolean {
      return mayRelay(this)
    },
    set(this: Connection, value: unknown) {
      const state = stateOf(this)
      if (!this.transaction) state.granted = value === true
      else if (value === false) revoked.add(this.transaction)
      else if (!state.ignored && !mayRelay(this)) {
        state.ignored = true
        this.lognotice('relay-guard: another plugin set relaying inside a transaction: ignored')
      }
    },
  })
}

/** True where this client may send mail to domains that are not ours. In doubt false. */
export function mayRelay(connection: Connection): boolean {
  const { classification, granted } = stateOf(connection)
  if (connection.transaction && revoked.has(connection.transaction)) return false
  if (classification.class === 'never' || classification.class === 'reject') return false
  return classification.class === 'relay' || granted
}

/** What acl.ini says of this client. */
export const classificationOf = (connection: Connection): Classification => stateOf(connection).classification

/** The user who logged in since the last XCLIENT or PROXY, as he wrote his name; also for a client in [never]. */
export function userOf(connection: Connection): string | undefined {
  const { granted } = stateOf(connection)
  return granted && connection.notes.auth_user ? connection.notes.auth_user : undefined
}

/** Which line gives the right to relay. */
export function relayRule(connection: Connection): Rule {
  const { rule } = classificationOf(connection)
  if (rule) return rule
  if (userOf(connection)) return { file: 'AUTH', section: 'user', key: userOf(connection) ?? '' }
  return { file: 'config/plugins', section: 'another plugin', key: 'relaying' }
}

/** Forgets login and rights, as after XCLIENT or PROXY: they were another client's. */
function forgetRights(connection: Connection): State {
  delete connection.notes.auth_user
  connection.notes.authenticating = false
  connection.authheader = undefined
  return begin(connection)
}

function stateOf(connection: Connection): State {
  const state = states.get(connection)
  if (!state) return begin(connection)
  return isSame(state.subject, connection) ? state : forgetRights(connection)
}

const isSame = (subject: Subject, { uuid, remote, local }: Connection): boolean =>
  subject.ip === remote.ip &&
  subject.port === remote.port &&
  subject.uuid === uuid &&
  subject.localIp === local.ip &&
  subject.localPort === local.port

function begin(connection: Connection): State {
  const { uuid, remote, local } = connection
  const subject = { uuid, ip: remote.ip, port: remote.port, localIp: local.ip, localPort: local.port }
  const state = { subject, classification: classify(subject), granted: false, ignored: false }
  states.set(connection, state)
  return state
}
