// The set-ups of "whole sessions".
import {
  defaultLimits,
  discard,
  forward,
  type Group,
  ourDomains,
  ourLimits,
  ourRelay,
  perSenderAndRecipient,
  type Setup,
  stockDomains,
  stockOutOfReach,
  stockRelay,
  takeRecipients,
} from './setup'

const gateway = ['relay-guard/acl', 'relay-guard/auth', 'relay-guard/domains']

const forwarding: Setup[] = [
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
    plugins: gateway,
    files: (world) => ({ ...ourRelay, ...ourDomains(world) }),
    counterpart: 'stock',
  },
  {
    name: 'stock + limit',
    about: 'and limit: concurrency, rate_conn, rate_rcpt, rate_rcpt_sender',
    plugins: ['limit', 'relay', 'rcpt_to.in_host_list', 'queue/smtp_forward'],
    files: (world) => ({ ...stockRelay, ...stockDomains, ...forward(world), ...stockOutOfReach(world) }),
    redis: true,
  },
  {
    name: 'relay-guard + limits',
    about: 'and limits, with the limits.ini that comes with the package',
    plugins: [...gateway, 'relay-guard/limits'],
    files: (world) => ({ ...ourRelay, ...ourDomains(world), ...ourLimits(defaultLimits, world) }),
    redis: true,
    counterpart: 'stock + limit',
  },
  {
    name: 'relay-guard + limits per sender and recipient',
    about: 'and `[recipients per sender]`, `[recipients per recipient]`, which strangers choose',
    plugins: [...gateway, 'relay-guard/limits'],
    files: (world) => ({
      ...ourRelay,
      ...ourDomains(world),
      ...ourLimits(defaultLimits + perSenderAndRecipient, world),
    }),
    redis: true,
    counterpart: 'stock + limit',
  },
]

const discarding: Setup[] = [
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
    files: (world) => ({ ...stockRelay, ...stockOutOfReach(world) }),
    redis: true,
  },
  {
    name: 'relay-guard acl, discarding',
    about: 'acl',
    plugins: ['relay-guard/acl', 'take_recipients', 'discard'],
    localPlugins: discard,
    files: () => ourRelay,
  },
  {
    name: 'relay-guard acl + limits, discarding',
    about: "acl and limits, with the package's limits.ini",
    plugins: ['relay-guard/acl', 'relay-guard/limits', 'take_recipients', 'discard'],
    localPlugins: discard,
    files: (world) => ({ ...ourRelay, ...ourLimits(defaultLimits, world) }),
    redis: true,
    counterpart: 'stock acl + limit, discarding',
  },
  {
    name: 'relay-guard acl + limits per sender and recipient, discarding',
    about: 'and limits per sender and per recipient',
    plugins: ['relay-guard/acl', 'relay-guard/limits', 'take_recipients', 'discard'],
    localPlugins: discard,
    files: (world) => ({ ...ourRelay, ...ourLimits(defaultLimits + perSenderAndRecipient, world) }),
    redis: true,
    counterpart: 'stock acl + limit, discarding',
  },
]

/** Each group is one interleaved comparison; its first set-up is the bare one. */
export const groups: Group[] = [
  { title: 'Mail for a domain of ours, handed to its next hop', setups: forwarding },
  { title: 'ACL and limits alone, the message thrown away', setups: discarding },
]
