// relay-guard/acl: who this client is, by its address and the address that it connected to. See docs/acl.md.
import { beforeEachCommand } from '../../core/haraka/command'
import { forgetRefused, held, rememberRefused } from '../../core/haraka/early-refusal'
import { classificationOf, mayRelay } from '../../core/haraka/relaying'
import { answer, guarded, record } from '../../core/haraka/reply'
import type { Connection, Next, Plugin } from '../../core/haraka/types'
import type { Reading } from '../../core/ini/reading'
import { Setting } from '../../core/ini/reload'
import { prepare, registerHooks, shutdownPlugin } from '../../core/register'
import { registry } from '../../core/registry'
import { counted } from '../../core/start-line'
import { runAtOnce, runInTimeSlices } from '../../core/time-slices'
import { type AclConfig, readAcl } from './config'
import { classify, judgeConnection } from './policy'

/** Reads acl.ini and registers the hooks. Throws Error where Haraka must not start. */
export function register(this: Plugin): void {
  prepare(this)
  // Nothing here waits; Haraka would start a timer for each hook.
  this.timeout = 0
  const reader = {
    read: (reading: Reading) => runAtOnce(readAcl(reading)),
    sliced: (reading: Reading) => runInTimeSlices(readAcl(reading)),
  }
  const acl: Setting<AclConfig> = new Setting(this, 'acl.ini', reader, () => forgetRefused())
  registry.acl = { classify: (client) => classify(acl.value, client), generation: () => acl.generation }
  registry.inForce.acl = () => counted(entriesOf(acl.value), 'acl entry', 'acl entries')
  beforeEachCommand(this, (connection) => isRejectedNow(this, connection))
  registerHooks(this)
}

const entriesOf = ({ reject, never, relay, listeners }: AclConfig): number =>
  reject.size + never.size + relay.size + listeners.length

/** Called by Haraka when it stops. */
export function shutdown(): void {
  shutdownPlugin()
}

/** At connect, as the client's address is known. */
export const reject = guarded(function (this, next, connection) {
  if (!isRejected(this, connection, held(next))) next()
})

/** Refuses a client in [reject], and ends its connection. */
function isRejected(plugin: Plugin, connection: Connection, next: Next): boolean {
  const classification = classificationOf(connection)
  if (classification.class !== 'reject') return false
  const decision = judgeConnection(classification, connection.remote.ip)
  if (!decision) return false
  const spoken = answer(plugin, next, connection, decision)
  // Until a reload, which forgets all.
  rememberRefused(plugin, connection, { decision, spoken, wait: Infinity })
  return true
}

/**
 * Ahead of a command: a reload may have put the client into [reject] since it was let in. Before its name was looked up it
 * was not let in yet, and where PROXY is still to name it, the address is another one's.
 */
function isRejectedNow(plugin: Plugin, connection: Connection): boolean {
  if (connection.remote.host === null || classificationOf(connection).class !== 'reject') return false
  return isRejected(plugin, connection, (_, reply) =>
    connection.respond(554, reply, () => connection.disconnect()),
  )
}

/** As with the stock relay plugin, checks of strangers at connect are not for clients that may relay. */
export const skip_checks = guarded(function (this, next, connection) {
  if (classificationOf(connection).class !== 'nobody') recordClass(this, connection)
  next(mayRelay(connection) ? OK : CONT)
})

function recordClass(plugin: Plugin, connection: Connection): void {
  const { label, ...classification } = classificationOf(connection)
  const decision = judgeConnection(classification, connection.remote.ip)
  if (decision) record(plugin, connection, decision, label ? { label } : {})
}
