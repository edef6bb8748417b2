// Routes and bodies as the tests of the next-hop client write them.
import { parseNextHop } from '../../core/next-hop/address'
import { NextHopClient } from '../../core/next-hop/client'
import type { Source } from '../../core/next-hop/message'
import type { Route, Settings } from '../../core/next-hop/route'

/** A client that waits for the first host however busy this machine is, and does not try the next one beside it. */
export const newClient = (settings: Partial<Settings> = {}) =>
  new NextHopClient({ name: 'me.example', budget: 20_000, patience: 60_000, ...settings })

/** A route over these next hops, given as text. */
export const routeTo = (hops: string[], route: Partial<Route> = {}): Route => ({
  key: 'route',
  hops: hops.map(parseNextHop),
  tls: 'none',
  timeout: 20_000,
  timeoutFinal: 20_000,
  ...route,
})

export const text =
  (message: string | Buffer): Source =>
  (body) => {
    body.end(message)
  }
