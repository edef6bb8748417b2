// What a running worker holds.
import type { Plugin } from '../../../core/haraka/types'
import type { Setting } from '../../../core/ini/reload'
import type { Journal } from '../../../core/journal'
import type { Limiter } from '../../../core/limiter'
import type { LimitsConfig } from '../config'

export interface Runtime {
  plugin: Plugin
  limits: Setting<LimitsConfig>
  limiter: Limiter | undefined
  journal: Journal | undefined
  /** Open connections of this worker. */
  connections: number
}

/** Filled by `register`, before any hook runs. */
export const runtime = { connections: 0 } as Runtime
