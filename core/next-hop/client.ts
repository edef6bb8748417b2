// The way in: deliveries over connections that are shared by route.
import { Connections } from './connections'
import { Delivery } from './delivery'
import { type Envelope, type FullSettings, type Route, type Settings, withDefaults } from './route'

/** More than this many routes, and those without connections are forgotten. */
const MANY_ROUTES = 1_000

/** Hands messages to next hops. One a process, so that all keep to `connections`. */
export class NextHopClient {
  #settings: FullSettings
  #routes = new Map<string, Connections>()

  constructor(settings: Settings) {
    this.#settings = withDefaults(settings)
  }

  /**
   * Begins a transaction. Nothing is sent, and no connection made, before its first recipient.
   * `budget`: ms for all hosts together at one recipient, the wait for a connection included.
   */
  open(route: Route, envelope: Envelope, { budget = this.#settings.budget } = {}): Delivery {
    return new Delivery(route, envelope, this.#connections(route), budget)
  }

  /** At shutdown: sends QUIT on the connections kept for reuse; those in use are closed when they come back. */
  async closeAll(): Promise<void> {
    await Promise.all([...this.#routes.values()].map((connections) => connections.close()))
  }

  #connections(route: Route): Connections {
    const known = this.#routes.get(route.key)
    if (known) return known
    if (this.#routes.size >= MANY_ROUTES) {
      for (const [key, connections] of this.#routes) if (connections.unused) this.#routes.delete(key)
    }
    const connections = new Connections(this.#settings, route)
    this.#routes.set(route.key, connections)
    return connections
  }
}
