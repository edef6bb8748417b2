// A set-up under measurement, a Haraka of its own told by its plugins and files, and the pieces that set-ups share.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../test/support/install'
import type { Clients } from './load'

/** The ports of what a server works with. */
export interface World {
  sinkPort: number
  redisPort: number
}

export interface Setup {
  name: string
  /** What is in it, in words. */
  about: string
  plugins: string[]
  localPlugins?: Record<string, string>
  files: (world: World) => Record<string, string>
  /** A Redis of its own. */
  redis?: boolean
  /** The name of the set-up that does the same with other plugins. */
  counterpart?: string
  /** Worker processes; without it one process that has no master. */
  nodes?: number
  /** Who connects, where the comparison does not say. */
  clients?: Clients
  /** What is done after the start and before anything is measured, with the ports of Haraka, its Redis and the sink. */
  prepare?: (port: number, redisPort: number, sinkPort: number) => Promise<void>
}

/** Set-ups of one comparison; the first is what the others are compared with. */
export interface Group {
  title: string
  setups: Setup[]
}

// A bare Haraka takes no recipient at all, so something must.
export const takeRecipients = { take_recipients: 'exports.hook_rcpt = (next) => next(OK)\n' }
export const discard = { ...takeRecipients, discard: 'exports.hook_queue = (next) => next(OK)\n' }

const harakaRedis = (port: number) => `[server]\nhost=127.0.0.1\nport=${port}\n`

export const forward = ({ sinkPort }: World) => ({
  'smtp_forward.ini': `host=127.0.0.1\nport=${sinkPort}\nenable_tls=false\n`,
})

export const stockRelay = {
  'relay.ini': '[relay]\nacl=true\nforce_routing=false\ndest_domains=false\n',
  relay_acl_allow: '192.0.2.0/24\n198.51.100.7/32\n',
}

export const stockDomains = { host_list: 'local.test\n', 'host_list.anti_spoof': 'true\n' }

export const ourRelay = { 'relay-guard/acl.ini': '[relay]\n192.0.2.0/24\n198.51.100.7\n' }

/** domains.ini with these domains, all with the sink as next hop. */
export const ourDomains = ({ sinkPort }: World, names = ['local.test']) => ({
  'relay-guard/domains.ini': names
    .map((name) => `[${name}]\nnext_hop = smtp://127.0.0.1:${sinkPort}\ntls = none\n`)
    .join(''),
})

/** Limits of the stock plugin. `127=` (empty) undoes its own `127=0`, loopback unlimited. */
export const stockLimits = (connections: string, concurrent: number, { redisPort }: World) => ({
  'limit.ini': [
    `[main]\ntarpit_delay=0\n[concurrency]\nenabled=true\nmax=${concurrent}\n`,
    `[rate_conn]\nenabled=true\n127=\n${connections}`,
    ...['rate_rcpt', 'rate_rcpt_sender'].map(
      (what) => `[${what}]\nenabled=true\n127=\ndefault=1000000/60s\n`,
    ),
    '[redis]\ndatabase=0\n',
  ].join(''),
  'redis.ini': harakaRedis(redisPort),
})

/** Stock limits that nobody comes near to. */
export const stockOutOfReach = (world: World) => stockLimits('default=1000000/60s\n', 1000, world)

/** limits.ini as the package brings it. */
export const defaultLimits = readFileSync(join(root, 'config/relay-guard/limits.ini'), 'utf8')

/** The same limits, all 1,000 times as high: for what comes from a few addresses only. */
export const raisedLimits = defaultLimits.replace(/^limit = .*$/gm, (line) =>
  line.replace(/\d+(?=[A-Z]?(\/|,|$))/g, (figure) => `${figure}000`),
)

/** What the stock plugin can count too: each sender and each recipient. Out of reach. */
export const perSenderAndRecipient = ['sender', 'recipient']
  .map((whom) => `[recipients per ${whom}]\nlimit = 1000000/1m\n`)
  .join('')

/** limits.ini with this text, its counters in the set-up's Redis. */
export const ourLimits = (limits: string, { redisPort }: World) => ({
  'relay-guard/limits.ini': limits,
  'relay-guard/redis.ini': '[redis]\nenabled = true\n',
  'redis.ini': harakaRedis(redisPort),
})
