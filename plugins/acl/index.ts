// relay-guard/acl: who this client is, by its address and the address that it connected to. See docs/acl.md.

import { forgetRefused, rememberRefused } from '../../core/haraka/early-refusal'
import { classificationOf, mayRelay, setClassifier } from '../../core/haraka/relaying'
import { answer, guarded, record } from '../../core/haraka/reply'
import { registerCommon } from '../../core/haraka/shared-hooks'
import type { Plugin } from '../../core/haraka/types'
import type { Reading } from '../../core/ini/reading'
import { Setting } from '../../core/ini/reload'
import { failStartOnErrors } from '../../core/ini/start-errors'
import { runAtOnce, runInTimeSlices } from '../../core/time-slices'
import { type AclConfig, readAcl } from './config'
import { classify, judgeConnection } from './policy'

/** ms until a rejected client is looked up again. */
const REJECTED_FOR = 5000

export function register(this: Plugin): void {
  registerCommon(this)
  // Nothing here waits; Haraka would start a timer for each hook.
  this.timeout = 0
  const reader = {
    read: (reading: Reading) => runAtOnce(readAcl(reading)),
    sliced: (reading: Reading) => runInTimeSlices(readAcl(reading)),
  }
  const acl: Setting<AclConfig> = new Setting(this, 'acl.ini', reader, forgetRefused)
  setClassifier((client) => classify(acl.value, client))
  // lookup_rdns is the first hook that can refuse, before DNS is asked; XCLIENT may come back at connect.
  this.register_hook('lookup_rdns', 'reject', -100)
  this.register_hook('connect', 'reject', -100)
  this.register_hook('connect', 'skip_checks', -90)
  failStartOnErrors(this)
}

export const reject = guarded(function (this, next, connection) {
  const decision = judgeConnection(classificationOf(connection), connection.remote.ip)
  if (!decision || decision.code < 400) return next()
  const spoken = answer(this, next, connection, decision)
  rememberRefused(this, connection, { spoken, wait: REJECTED_FOR, say: () => decision })
})

/** As with the stock relay plugin, checks of strangers at connect are not for clients that may relay. */
export const skip_checks = guarded(function (this, next, connection) {
  const { label, ...standing } = classificationOf(connection)
  const decision = judgeConnection(standing, connection.remote.ip)
  if (decision) record(this, connection, decision, label ? { label } : {})
  next(mayRelay(connection) ? OK : CONT)
})
