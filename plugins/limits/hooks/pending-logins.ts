// Logins whose password is being checked. Each may fail, so each takes one of the failed logins that there is room for,
// in the store and so on all workers, before the password is looked at; else any number of passwords could be tried side
// by side before the first failure is counted. It is given back unless the password turns out to be wrong.

import type { CheckResult } from '../../../core/limiter'
import type { Party } from '../../../core/party'
import type { LoginOutcome } from '../../../core/registry'
import { services } from '../../../core/services'
import { failedLogin } from '../policy/failed-logins'
import { ask } from './check'
import { runtime } from './runtime'

/** One login whose outcome is not known yet. */
export class PendingLogin {
  #outcome: LoginOutcome | undefined
  #failed: Promise<CheckResult | undefined> | undefined

  /** `known`: the user has logged in from this network before. `held`: the answer to the plan of `attempting`. */
  constructor(
    private readonly party: Party,
    readonly known: boolean,
    private readonly held: CheckResult | undefined,
  ) {}

  /**
   * What came of it: the first outcome counts. Only that a password was wrong may turn out to have been unknown, by the
   * reply: auth_base says both by the same note.
   */
  settle(outcome: LoginOutcome): void {
    if (this.#outcome !== undefined && !(this.#outcome === 'wrong' && outcome === 'cannot tell')) return
    this.#outcome = outcome
    if (outcome === 'wrong') {
      this.#failed = ask('charge', failedLogin(runtime.limits.value, this.party, this.known))
      return
    }
    if (this.held) void services.limiter?.refund(this.held)
    void this.#failed?.then((failed) => failed && services.limiter?.refund(failed))
  }
}
