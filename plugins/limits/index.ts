// relay-guard/limits: how much a client may do. See docs/limits.md.
import { forgetRefused } from '../../core/haraka/early-refusal'
import { watchErrors } from '../../core/haraka/error-count'
import type { Plugin } from '../../core/haraka/types'
import { Setting } from '../../core/ini/reload'
import { prepare, registerHooks, shutdownPlugin } from '../../core/register'
import { registry } from '../../core/registry'
import { services } from '../../core/services'
import { counted } from '../../core/start-line'
import { readLimits } from './config'
import { judgeErrors } from './hooks/errors'
import { runtime } from './hooks/runtime'
import { sessionOf } from './hooks/session'

export { auth } from './hooks/auth'
export { ask_connection, count_connection, disconnect } from './hooks/connect'
export { count_bytes, reset } from './hooks/data'
export { count_message } from './hooks/mail'
export { count_recipient, shut } from './hooks/rcpt'

/** Reads limits.ini and registers the hooks. Throws Error where Haraka must not start. */
export function register(this: Plugin): void {
  prepare(this)
  runtime.plugin = this
  // Whatever is asked has a deadline of its own; Haraka would start a timer for each hook.
  this.timeout = 0
  runtime.limits = new Setting(this, 'limits.ini', { read: readLimits }, () => {
    services.limiter?.forgetRefusals()
    forgetRefused()
  })
  registry.loginOutcome = (connection, outcome) => sessionOf(connection).login?.settle(outcome)
  registry.isKnownNetwork = (connection) => sessionOf(connection).login?.known ?? false
  registry.inForce.limits = () => counted(runtime.limits.value.limits.size, 'limit')
  watchErrors(this, judgeErrors)
  registerHooks(this)
}

/** Called by Haraka when it stops. */
export function shutdown(): void {
  shutdownPlugin()
}
