// The set-ups under flood: 20 connections a minute from one address, and 10 at once.
import { addressAt } from './addresses'
import { discard, ourLimits, perSenderAndRecipient, type Setup, stockLimits } from './setup'

/** The network of the flood from many addresses, each of which may connect once an hour. */
export const FLOOD_NETWORK = '127.77'
export const FLOOD_ADDRESSES = 5000

/** The stock plugin counts a subnet as one client: one line an address says the same as our line for the subnet. */
const floodersOneByOne = () =>
  Array.from({ length: FLOOD_ADDRESSES }, (_, at) => `${addressAt(FLOOD_NETWORK, at)}=1/1h\n`).join('')

const limits = [
  `[connections per ip]\nlimit = 20/1m\n${FLOOD_NETWORK}.0.0/16 = 1/1h\n`,
  '[concurrent connections per ip]\nlimit = 10\n',
  ...['messages', 'recipients'].map((what) => `[${what} per ip]\nlimit = 1000000/1m\n`),
  '[bytes per ip]\nlimit = 1000000000/1m\n',
  perSenderAndRecipient,
].join('')

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
    files: (world) => stockLimits(`default=20/60s\n${floodersOneByOne()}`, 10, world),
    redis: true,
  },
  {
    name: 'relay-guard limits',
    about:
      'limits: connections 20/1m, concurrent connections 10, messages, bytes and recipients per ip, recipients per sender and per recipient',
    plugins: ['relay-guard/limits', 'take_recipients', 'discard'],
    localPlugins: discard,
    files: (world) => ourLimits(limits, world),
    redis: true,
  },
]
