// The Harakas of "beside other servers": one worker a core, mail for local.test goes on to one next hop.
import { cpus } from 'node:os'
import {
  forward,
  ourDomains,
  ourLimits,
  ourRelay,
  raisedLimits,
  type Setup,
  stockDomains,
  stockOutOfReach,
  stockRelay,
  type World,
} from './setup'

const nodes = cpus().length
const gateway = ['relay-guard/acl', 'relay-guard/auth', 'relay-guard/domains']
const route = (world: World) => ({ ...ourRelay, ...ourDomains(world) })

export const gatewaySetups: Setup[] = [
  {
    name: 'stock Haraka + limit',
    about: 'relay (acl), rcpt_to.in_host_list (anti_spoof), queue/smtp_forward, limit in Redis',
    plugins: ['limit', 'relay', 'rcpt_to.in_host_list', 'queue/smtp_forward'],
    files: (world) => ({ ...stockRelay, ...stockDomains, ...forward(world), ...stockOutOfReach(world) }),
    redis: true,
    nodes,
  },
  {
    name: 'relay-guard',
    about: 'acl, auth, domains (delivery = forward); no limits',
    plugins: gateway,
    files: route,
    nodes,
  },
  {
    name: 'relay-guard + limits in Redis',
    about: "and all limits of the package's limits.ini, each 1,000 times as high",
    plugins: [...gateway, 'relay-guard/limits'],
    files: (world) => ({ ...route(world), ...ourLimits(raisedLimits, world) }),
    redis: true,
    nodes,
  },
  {
    name: 'relay-guard + limits in memory',
    about: 'the same limits, counted in the memory of the master process',
    plugins: [...gateway, 'relay-guard/limits'],
    files: (world) => ({ ...route(world), 'relay-guard/limits.ini': raisedLimits }),
    nodes,
  },
]
