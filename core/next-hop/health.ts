// Says of each host of this worker when it goes down and when it is back, once a change, whichever route noticed.
import { clean } from '../text'
import { type NextHop, printHost } from './address'

/** Hears one line for each change. */
export type HealthLog = (line: string, change: 'down' | 'back') => void

/** Which hosts are down, of all routes of one client. */
export class Health {
  #down = new Set<string>()

  constructor(readonly log: HealthLog) {}

  /** It failed for the reason `error` and backs off for `backOff` ms; one line unless it was down. */
  down(hop: NextHop, error: unknown, backOff: number) {
    const host = printHost(hop)
    if (this.#down.has(host)) return
    this.#down.add(host)
    const why = clean(error instanceof Error ? error.message : String(error), 200)
    this.log(`next hop ${host}: down (${why}), backs off ${Math.round(backOff / 1000)} s`, 'down')
  }

  /** It works; one line if it was down. */
  back(hop: NextHop) {
    const host = printHost(hop)
    if (this.#down.delete(host)) this.log(`next hop ${host}: back`, 'back')
  }
}
