// Who may relay: the one place that says so. Haraka's flag `connection.relaying` becomes a view of it, so that core,
// the queue, SPF, DKIM and delay_deny all read the same answer, whatever another plugin writes, in whatever order.
import type { Rule } from './decision'
import type { Connection, Plugin, Transaction } from './haraka'

/** What the ACL says of a client. `nobody`: nothing in particular. */
export interface Standing {
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
  plugin: Plugin
  /** What these rights were found for; XCLIENT and PROXY change it, and all starts afresh. */
  subject: Subject
  standing: Standing
  /** A right set from outside a transaction: by AUTH, or by another plugin for this client. */
  granted: boolean
  ignored: boolean
}

interface Subject extends Client {
  uuid: string
  port: number
}

const NOBODY: Standing = { class: 'nobody' }
const states = new WeakMap<Connection, State>()
let classify: (client: Client) => Standing = () => NOBODY

/** How the acl plugin makes itself known; without it every client is nobody in particular. */
export function setClassifier(classifier: (client: Client) => Standing): void {
  classify = classifier
}

/** Takes over `connection.relaying`. Called at connect_init, before other plugins; again it does nothing. */
export function guardConnection(plugin: Plugin, connection: Connection): void {
  if (states.has(connection)) return
  states.set(connection, fresh(plugin, connection, connection._relaying === true))
  Object.defineProperty(connection, '_relaying', {
    configurable: true,
    enumerable: true,
    get: () => mayRelay(connection),
    set: (value: unknown) => {
      stateOf(connection).granted = value === true
    },
  })
}

const guarded = new WeakSet<Transaction>()
/** Another plugin took the right away for one transaction: that counts. */
const revoked = new WeakSet<Transaction>()

/**
 * Takes over the flag of the open transaction. A right that is set inside a transaction (as the stock relay plugin's
 * dest_domains does for one recipient) would hold for all recipients after it: it does not count.
 */
export function guardTransaction(plugin: Plugin, connection: Connection): void {
  guardConnection(plugin, connection)
  const { transaction } = connection
  if (!transaction || guarded.has(transaction)) return
  guarded.add(transaction)
  if (transaction._relaying === false) revoked.add(transaction)
  Object.defineProperty(transaction, '_relaying', {
    configurable: true,
    enumerable: true,
    get: () => mayRelay(connection),
    set: (value: unknown) => {
      const state = stateOf(connection)
      if (value === false) revoked.add(transaction)
      if (value !== true || state.ignored || mayRelay(connection)) return
      state.ignored = true
      connection.lognotice(plugin, 'another plugin set relaying inside a transaction: ignored')
    },
  })
}

/** True where this client may send mail to domains that are not ours. In doubt false. */
export function mayRelay(connection: Connection): boolean {
  const { standing, granted } = stateOf(connection)
  if (connection.transaction && revoked.has(connection.transaction)) return false
  if (standing.class === 'never' || standing.class === 'reject') return false
  return standing.class === 'relay' || granted
}

/** What acl.ini says of this client. */
export const standingOf = (connection: Connection): Standing => stateOf(connection).standing

/** The user who logged in since the last XCLIENT or PROXY, as he wrote his name; also for a client in [never]. */
export function userOf(connection: Connection): string | undefined {
  const { granted } = stateOf(connection)
  return granted && connection.notes.auth_user ? connection.notes.auth_user : undefined
}

/** Which line gives the right to relay. */
export function relayRule(connection: Connection): Rule {
  const { rule } = standingOf(connection)
  if (rule) return rule
  if (userOf(connection)) return { file: 'AUTH', section: 'user', key: userOf(connection) ?? '' }
  return { file: 'config/plugins', section: 'another plugin', key: 'relaying' }
}

/** Forgets login and rights, as after XCLIENT or PROXY: they were another client's. */
export function startAfresh(plugin: Plugin, connection: Connection): void {
  delete connection.notes.auth_user
  connection.notes.authenticating = false
  connection.authheader = undefined
  states.set(connection, fresh(plugin, connection, false))
}

function stateOf(connection: Connection): State {
  const state = states.get(connection)
  if (state && isSame(state.subject, connection)) return state
  if (state) startAfresh(state.plugin, connection)
  return states.get(connection) ?? UNKNOWN
}

const isSame = (subject: Subject, { uuid, remote, local }: Connection): boolean =>
  subject.ip === remote.ip &&
  subject.port === remote.port &&
  subject.uuid === uuid &&
  subject.localIp === local.ip &&
  subject.localPort === local.port

function fresh(plugin: Plugin, { uuid, remote, local }: Connection, granted: boolean): State {
  const subject = { uuid, ip: remote.ip, port: remote.port, localIp: local.ip, localPort: local.port }
  return { plugin, subject, standing: classify(subject), granted, ignored: false }
}

/** Of a connection that nobody took over: nobody in particular, without any right. */
const UNKNOWN: State = {
  plugin: { name: '' } as Plugin,
  subject: { uuid: '', ip: '', port: 0, localIp: undefined, localPort: undefined },
  standing: NOBODY,
  granted: false,
  ignored: false,
}
