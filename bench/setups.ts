// What is compared: each set-up is a Haraka of its own, told by its plugins and files.
import { existsSync } from 'node:fs'
import { join } from 'node:path'

interface World {
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
  /** The name of the stock set-up that does the same. */
  counterpart?: string
}

/** Set-ups of one comparison; the first is the bare one. */
export interface Group {
  title: string
  setups: Setup[]
}

// A bare Haraka takes no recipient at all, so something must.
const takeRecipients = { take_recipients: 'exports.hook_rcpt = (next) => next(OK)\n' }
const discard = { ...takeRecipients, discard: 'exports.hook_queue = (next) => next(OK)\n' }

const harakaRedis = (port: number) => `[server]\nhost=127.0.0.1\nport=${port}\n`

const forward = ({ sinkPort }: World) => ({
  'smtp_forward.ini': `host=127.0.0.1\nport=${sinkPort}\nenable_tls=false\n`,
})

const stockRelay = {
  'relay.ini': '[relay]\nacl=true\nforce_routing=false\ndest_domains=false\n',
  relay_acl_allow: '192.0.2.0/24\n198.51.100.7/32\n',
}

const stockDomains = { host_list: 'local.test\n', 'host_list.anti_spoof': 'true\n' }

const ourRelay = { 'relay-guard/acl.ini': '[relay]\n192.0.2.0/24\n198.51.100.7\n' }

const ourDomains = ({ sinkPort }: World) => ({
  'relay-guard/domains.ini': `[local.test]\nnext_hop = smtp://127.0.0.1:${sinkPort}\ntls = none\n`,
})

/** Limits of the stock plugin. `127=` (empty) undoes its own `127=0`, loopback unlimited. */
const stockLimit = (connections: string, concurrent: number) => [
  `[main]\ntarpit_delay=0\n[concurrency]\nenabled=true\nmax=${concurrent}\n`,
  `[rate_conn]\nenabled=true\n127=\n${connections}`,
  ...['rate_rcpt', 'rate_rcpt_sender'].map((what) => `[${what}]\nenabled=true\n127=\ndefault=1000000/60s\n`),
]

/** Ours: those that the stock plugin has, and messages, recipients and bytes of a client besides. */
const ourLimits = (connections: string, concurrent: number) =>
  [
    `[connections per ip]\n${connections}`,
    `[concurrent connections per ip]\nlimit = ${concurrent}\n`,
    ...['messages per ip', 'recipients per ip', 'recipients per sender', 'recipients per recipient'].map(
      (what) => `[${what}]\nlimit = 1000000/1m\n`,
    ),
    '[bytes per ip]\nlimit = 1000000000/1m\n',
  ].join('')

const withStockLimit = (connections: string, concurrent: number, { redisPort }: World) => ({
  'limit.ini': [...stockLimit(connections, concurrent), '[redis]\ndatabase=0\n'].join(''),
  'redis.ini': harakaRedis(redisPort),
})

const withOurLimits = (connections: string, concurrent: number, { redisPort }: World) => ({
  'relay-guard/limits.ini': ourLimits(connections, concurrent),
  'relay-guard/redis.ini': '[redis]\nenabled = true\n',
  'redis.ini': harakaRedis(redisPort),
})

const outOfReach = { stock: 'default=1000000/60s\n', ours: 'limit = 1000000/1m\n', concurrent: 1000 }

/** True when this package has the plugin. */
const hasLimits = existsSync(join(__dirname, '../plugins/limits/index.js'))
const oursToo = (...setups: Setup[]): Setup[] => (hasLimits ? setups : [])

export const groups: Group[] = [
  {
    title: 'Mail for a domain of ours, handed to its next hop',
    setups: [
      {
        name: 'bare',
        about: 'takes every recipient; queue/smtp_forward',
        plugins: ['take_recipients', 'queue/smtp_forward'],
        localPlugins: takeRecipients,
        files: forward,
      },
      {
        name: 'stock',
        about: 'relay (acl), rcpt_to.in_host_list (anti_spoof), queue/smtp_forward',
        plugins: ['relay', 'rcpt_to.in_host_list', 'queue/smtp_forward'],
        files: (world) => ({ ...stockRelay, ...stockDomains, ...forward(world) }),
      },
      {
        name: 'relay-guard',
        about: 'acl, auth, domains (delivery = forward)',
        plugins: ['relay-guard/acl', 'relay-guard/auth', 'relay-guard/domains'],
        files: (world) => ({ ...ourRelay, ...ourDomains(world) }),
        counterpart: 'stock',
      },
      {
        name: 'stock + limit',
        about: 'and limit: concurrency, rate_conn, rate_rcpt, rate_rcpt_sender',
        plugins: ['limit', 'relay', 'rcpt_to.in_host_list', 'queue/smtp_forward'],
        files: (world) => ({
          ...stockRelay,
          ...stockDomains,
          ...forward(world),
          ...withStockLimit(outOfReach.stock, outOfReach.concurrent, world),
        }),
        redis: true,
      },
      ...oursToo({
        name: 'relay-guard + limits',
        about:
          'and limits: connections, concurrent connections, messages, bytes and recipients per ip, recipients per sender and per recipient',
        plugins: ['relay-guard/acl', 'relay-guard/auth', 'relay-guard/domains', 'relay-guard/limits'],
        files: (world) => ({
          ...ourRelay,
          ...ourDomains(world),
          ...withOurLimits(outOfReach.ours, outOfReach.concurrent, world),
        }),
        redis: true,
        counterpart: 'stock + limit',
      }),
    ],
  },
  {
    title: 'ACL and limits alone, the message thrown away',
    setups: [
      {
        name: 'bare, discarding',
        about: 'takes every recipient; discards',
        plugins: ['take_recipients', 'discard'],
        localPlugins: discard,
        files: () => ({}),
      },
      {
        name: 'stock acl + limit, discarding',
        about: 'relay (acl) and limit as above',
        plugins: ['limit', 'relay', 'take_recipients', 'discard'],
        localPlugins: discard,
        files: (world) => ({
          ...stockRelay,
          ...withStockLimit(outOfReach.stock, outOfReach.concurrent, world),
        }),
        redis: true,
      },
      {
        name: 'relay-guard acl, discarding',
        about: 'acl',
        plugins: ['relay-guard/acl', 'take_recipients', 'discard'],
        localPlugins: discard,
        files: () => ourRelay,
      },
      ...oursToo({
        name: 'relay-guard acl + limits, discarding',
        about: 'acl and limits as above',
        plugins: ['relay-guard/acl', 'relay-guard/limits', 'take_recipients', 'discard'],
        localPlugins: discard,
        files: (world) => ({
          ...ourRelay,
          ...withOurLimits(outOfReach.ours, outOfReach.concurrent, world),
        }),
        redis: true,
        counterpart: 'stock acl + limit, discarding',
      }),
    ],
  },
]

/** The network of the flood from many addresses, each of which may connect once an hour. */
export const FLOOD_NETWORK = '127.77'
export const FLOOD_ADDRESSES = 5000

/** The stock plugin counts a subnet as one client: one line an address says the same as our line for the subnet. */
const floodersOneByOne = () =>
  Array.from(
    { length: FLOOD_ADDRESSES },
    (_, at) => `${FLOOD_NETWORK}.${Math.floor(at / 254)}.${(at % 254) + 1}=1/1h\n`,
  ).join('')

/** Set-ups under flood: 20 connections a minute from one address, and 10 at once. */
export const floodSetups: Setup[] = [
  {
    name: 'no limiter',
    about: 'takes every recipient; discards',
    plugins: ['take_recipients', 'discard'],
    localPlugins: discard,
    files: () => ({}),
  },
  {
    name: 'stock limit',
    about: 'limit: rate_conn 20/60s, concurrency 10, rate_rcpt, rate_rcpt_sender',
    plugins: ['limit', 'take_recipients', 'discard'],
    localPlugins: discard,
    files: (world) => withStockLimit(`default=20/60s\n${floodersOneByOne()}`, 10, world),
    redis: true,
  },
  ...oursToo({
    name: 'relay-guard limits',
    about: 'limits: connections 20/1m, concurrent connections 10, and the others as above',
    plugins: ['relay-guard/limits', 'take_recipients', 'discard'],
    localPlugins: discard,
    files: (world) => withOurLimits(`limit = 20/1m\n${FLOOD_NETWORK}.0.0/16 = 1/1h\n`, 10, world),
    redis: true,
  }),
]
