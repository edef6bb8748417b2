// What a running worker holds.
import type { Plugin } from '../../../core/haraka/types'
import type { Setting } from '../../../core/ini/reload'
import type { LimitsConfig } from '../config'

/** What the hooks of this plugin share. */
export interface Runtime {
  plugin: Plugin
  limits: Setting<LimitsConfig>
}

/** Filled by `register`, before any hook runs. */
export const runtime = {} as Runtime
