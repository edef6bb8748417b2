// relay-guard/acl: who this client is, by its address and the address that it connected to. See docs/acl.md.

import { answer, guarded, record } from '../../core/decision'
import { forgetAway, keepAway } from '../../core/haraka/early-refusal'
import { mayRelay, setClassifier, standingOf } from '../../core/haraka/relaying'
import { registerCommon } from '../../core/haraka/shared-hooks'
import type { Plugin } from '../../core/haraka/types'
import { type Reading, Setting, settled } from '../../core/ini/reload'
import { runAtOnce, runInSlices } from '../../core/time-slices'
import { type AclConfig, readAcl } from './config'
import { greet, standing } from './policy'

/** ms until a rejected client is looked up again. */
const REJECTED_FOR = 5000

export function register(this: Plugin): void {
  // Nothing here waits; Haraka would start a timer for each hook.
  this.timeout = 0
  const reader = {
    read: (reading: Reading) => runAtOnce(readAcl(reading)),
    sliced: (reading: Reading) => runInSlices(readAcl(reading)),
  }
  const acl: Setting<AclConfig> = new Setting(this, 'acl.ini', reader, forgetAway)
  setClassifier((client) => standing(acl.value, client))
  registerCommon(this)
  // lookup_rdns is the first hook that can refuse, before DNS is asked; XCLIENT may come back at connect.
  this.register_hook('lookup_rdns', 'reject', -100)
  this.register_hook('connect', 'reject', -100)
  this.register_hook('connect', 'skip_checks', -90)
  settled(this)
}

export const reject = guarded(function (this, next, connection) {
  const decision = greet(standingOf(connection), connection.remote.ip)
  if (!decision || decision.code < 400) return next()
  const spoken = answer(this, next, connection, decision)
  keepAway(this, connection, { spoken, wait: REJECTED_FOR, say: () => decision })
})

/** As with the stock relay plugin, checks of strangers at connect are not for clients that may relay. */
export const skip_checks = guarded(function (this, next, connection) {
  const { label, ...standing } = standingOf(connection)
  const decision = greet(standing, connection.remote.ip)
  if (decision) record(this, connection, decision, label ? { label } : {})
  next(mayRelay(connection) ? OK : CONT)
})
