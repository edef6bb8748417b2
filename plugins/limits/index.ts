// relay-guard/limits: how much a client may do. See docs/limits.md.

import cluster from 'node:cluster'
import { forgetRefused } from '../../core/haraka/early-refusal'
import { onDecision } from '../../core/haraka/reply'
import { registerCommon } from '../../core/haraka/shared-hooks'
import type { Plugin } from '../../core/haraka/types'
import { configurationHash, Setting } from '../../core/ini/reload'
import { failStartOnErrors } from '../../core/ini/start-errors'
import { Journal } from '../../core/journal'
import { Limiter, MemoryStore, serveMemory } from '../../core/limiter'
import { packageVersion } from '../../core/paths'
import { type RedisConfig, readRedis } from '../../core/redis/config'
import { readLimits } from './config'
import { watchErrors } from './hooks/errors'
import { runtime } from './hooks/runtime'

export { auth, count_connection, disconnect } from './hooks/connect'
export { count_bytes, count_message, count_recipient, reset, shut } from './hooks/rcpt'

export function register(this: Plugin): void {
  registerCommon(this)
  runtime.plugin = this
  // Whatever is asked has a deadline of its own; Haraka would start a timer for each hook.
  this.timeout = 0
  runtime.limits = new Setting(this, 'limits.ini', { read: readLimits }, () => {
    runtime.limiter?.forgetRefusals()
    forgetRefused()
  })
  const smtp = this.config.get('smtp.ini') as { main?: { nodes?: unknown } } | undefined
  // As Haraka does: without the key one worker, and with anything that is nothing no master.
  const nodes = smtp?.main?.nodes ?? 1
  const begin = () => {
    // The master of workers counts for them where there is no Redis; it takes no mail itself.
    if (cluster.isWorker || !nodes) start(this, redis.value)
  }
  const redis: Setting<RedisConfig> = new Setting(this, 'redis.ini', { read: readRedis }, begin)
  if (cluster.isPrimary && nodes) serveMemory(new MemoryStore())
  if (redis.value) begin()

  watchErrors(this)
  this.register_hook('lookup_rdns', 'count_connection', -95)
  this.register_hook('connect', 'count_connection', -95)
  this.register_hook('unrecognized_command', 'auth', -95)
  this.register_hook('mail', 'count_message', 90)
  this.register_hook('rcpt', 'shut', -98)
  this.register_hook('rcpt_ok', 'count_recipient', 50)
  this.register_hook('data_post', 'count_bytes', 50)
  this.register_hook('queue', 'count_bytes', -100)
  this.register_hook('queue_outbound', 'count_bytes', -100)
  this.register_hook('reset_transaction', 'reset', -100)
  this.register_hook('disconnect', 'disconnect', -100)
  failStartOnErrors(this)
}

/** Begins, or begins anew after redis.ini has changed. What was counted where it was counted before stays there. */
function start(plugin: Plugin, settings: RedisConfig): void {
  const before = { limiter: runtime.limiter, journal: runtime.journal }
  const log = (line: string) => plugin.lognotice(line)
  const version = packageVersion()
  runtime.limiter = new Limiter({ settings, log })
  runtime.journal = new Journal({
    settings,
    stream: () => settings.log,
    state: () => ({
      version,
      store: runtime.limiter?.source ?? 'memory',
      connections: runtime.connections,
      configuration: configurationHash(),
    }),
    log,
  })
  onDecision((decision) => runtime.journal?.note(decision))
  void before.limiter?.close()
  void before.journal?.close()
}

export function shutdown(): void {
  void runtime.limiter?.close()
  void runtime.journal?.close()
}
