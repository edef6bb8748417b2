// What a running worker holds.
import type { Setting } from '../../core/ini/reload'
import { registry } from '../../core/registry'
import type { AuthConfig } from './config'

interface Runtime {
  auth: Setting<AuthConfig>
}

/** Filled by `register`, before any hook runs. */
export const runtime = {} as Runtime

/** What completes a login name without @: auth.ini's `realm`, else the first of our domains. */
export const realm = (): string | undefined => runtime.auth.value.realm || registry.firstDomain?.()
