// The set-ups of "growth": more workers, more subjects that have counters, more domains.
import { fillCounters, fillDomains } from './fill'
import type { Clients } from './load'
import {
  defaultLimits,
  discard,
  type Group,
  ourDomains,
  ourLimits,
  ourRelay,
  raisedLimits,
  type Setup,
} from './setup'

const workers = (nodes: number): Setup[] => [
  {
    name: `bare, ${nodes} worker${nodes > 1 ? 's' : ''}`,
    about: 'takes every recipient; discards',
    plugins: ['take_recipients', 'discard'],
    localPlugins: discard,
    files: () => ({}),
    nodes,
  },
  {
    name: `relay-guard acl + limits, ${nodes} worker${nodes > 1 ? 's' : ''}`,
    about: "acl and limits, with the package's limits.ini, in one Redis",
    plugins: ['relay-guard/acl', 'relay-guard/limits', 'take_recipients', 'discard'],
    localPlugins: discard,
    files: (world) => ({ ...ourRelay, ...ourLimits(defaultLimits, world) }),
    redis: true,
    counterpart: `bare, ${nodes} worker${nodes > 1 ? 's' : ''}`,
    nodes,
  },
]

function subjects(addresses: number): Setup {
  const clients: Clients = { network: '127.128', addresses }
  return {
    name: `${addresses.toLocaleString('en')} subjects`,
    about: `acl and limits (those of the package, 1,000 times as high); Redis holds the counters of ${addresses.toLocaleString('en')} addresses and of their networks, and the sessions come from all over them`,
    plugins: ['relay-guard/acl', 'relay-guard/limits', 'take_recipients', 'discard'],
    localPlugins: discard,
    files: (world) => ({ ...ourRelay, ...ourLimits(raisedLimits, world) }),
    redis: true,
    clients,
    prepare: (port, redisPort) => fillCounters(port, redisPort, clients),
  }
}

function domains(count: number): Setup {
  const names = Array.from({ length: count }, (_, at) => `d${at}.local.test`)
  return {
    name: `${count.toLocaleString('en')} domains`,
    about: `acl, auth, domains (delivery = forward), ${count.toLocaleString('en')} sections in domains.ini, and mail for each`,
    plugins: ['relay-guard/acl', 'relay-guard/auth', 'relay-guard/domains'],
    files: (world) => ({ ...ourRelay, ...ourDomains(world, names) }),
    clients: { network: '127.21', addresses: 2000, domains: count },
  }
}

function domainsInRedis(count: number): Setup {
  return {
    name: `${count.toLocaleString('en')} domains in Redis`,
    about: `acl, auth, domains (delivery = forward, verify = none) with \`redis = true\`, ${count.toLocaleString('en')} hashes, and mail for each`,
    plugins: ['relay-guard/acl', 'relay-guard/auth', 'relay-guard/domains'],
    files: ({ redisPort }) => ({
      ...ourRelay,
      'relay-guard/domains.ini': '[main]\nredis = true\n',
      'relay-guard/redis.ini': `[redis]\nport = ${redisPort}\n`,
    }),
    redis: true,
    clients: { network: '127.22', addresses: 2000, domains: count },
    prepare: (_port, redisPort, sinkPort) => fillDomains(redisPort, sinkPort, count),
  }
}

/** Each group is one interleaved comparison of the same set-up, smaller and larger. */
export const growthGroups: Group[] = [
  { title: 'Workers', setups: [1, 2, 4].flatMap(workers) },
  { title: 'Subjects in Redis', setups: [10, 10_000, 1_000_000].map(subjects) },
  { title: 'Domains in domains.ini', setups: [10, 10_000].map(domains) },
  { title: 'Domains in Redis', setups: [10, 10_000, 1_000_000].map(domainsInRedis) },
]
