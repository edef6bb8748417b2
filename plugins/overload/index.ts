// relay-guard/overload: whether this server can take more mail now. See docs/overload.md.
import { diskPlaces, guardQueue, isSplit } from '../../core/haraka/disk-writes'
import type { Plugin } from '../../core/haraka/types'
import { Setting } from '../../core/ini/reload'
import { prepare, registerHooks, shutdownPlugin } from '../../core/register'
import { registry } from '../../core/registry'
import { counted } from '../../core/start-line'
import { type OverloadConfig, readOverload } from './config'
import { breakOff, judgeAnew, queueGate, runtime } from './hooks'
import { Monitor } from './monitor'

export { disconnect, end_message, judge_connection, judge_data, judge_mail, judge_message } from './hooks'

/** Reads overload.ini, starts measuring and registers the hooks. Throws Error where Haraka must not start. */
export function register(this: Plugin): void {
  prepare(this)
  // Nothing here waits; Haraka would start a timer for each hook.
  this.timeout = 0
  runtime.plugin = this
  const overload: Setting<OverloadConfig> = new Setting(this, 'overload.ini', { read: readOverload }, () =>
    runtime.monitor.update(),
  )
  registry.inForce.overload = () => counted(Object.keys(overload.value).length, 'overload mark')
  if (overload.value) {
    runtime.monitor = new Monitor(this, overload, diskPlaces(this), { breakOff, onChange: judgeAnew })
    registry.overloads = () => runtime.monitor.overloads
    runtime.isSplit = () => isSplit(this)
    guardQueue(queueGate)
    runtime.monitor.start()
  }
  registerHooks(this)
}

/** Called by Haraka when it stops. */
export function shutdown(): void {
  runtime.monitor.stop()
  shutdownPlugin()
}
