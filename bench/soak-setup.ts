// The gateway of the soak: all lines, limits in Redis, a domain for each way of delivery, a smarthost for the outside.
import type { HarakaOptions } from '../test/support/haraka'
import { defaultLimits, ourLimits } from './setup'
import type { HopName } from './soak-hops'

/** Users and the senders that they write as come again all the time: their limits would end the soak early. */
const limits = defaultLimits.replace(
  /(\[(?:messages|recipients|bytes) per user\][^[]*?\nlimit = ).*/g,
  '$1100G/1h',
)

const section = (name: string, hop: string, more = '') =>
  `[${name}]\nnext_hop = ${hop}\ntls = none\nverify = none\ntimeout = 5s\ntimeout_final = 10s\n${more}`

/**
 * Stands for SPF, so that a sender outside is told what becomes of his mail. The log is cut to warnings and errors once
 * all workers listen: a million sessions would fill the memory of whoever reads it.
 */
const local = `
exports.register = function () {
  this.register_hook('mail', 'spf')
  this.register_hook('init_child', 'quiet')
  this.register_hook('init_master', 'quiet')
}
exports.spf = (next, { transaction }) => {
  const domain = transaction.mail_from.host
  if (/client.example$/.test(domain)) transaction.results.add({ name: 'spf' }, { scope: 'mfrom', result: 'Pass', domain })
  next()
}
exports.quiet = function (next) {
  setTimeout(() => this.haraka_require('logger').set_loglevel('WARN'), 5000).unref()
  next()
}
`

/** What Haraka is started with. */
export function soakOptions(ports: Record<HopName, number>, redisPort: number, nodes: number): HarakaOptions {
  const smtp = (name: HopName) => `smtp://127.0.0.1:${ports[name]}`
  const users = Array.from({ length: 50 }, (_, n) => `user${n}=secret\n`).join('')
  return {
    nodes,
    plugins: [
      'local',
      'auth/flat_file',
      'relay-guard/acl',
      'relay-guard/auth',
      'relay-guard/domains',
      'relay-guard/limits',
    ],
    localPlugins: { local },
    files: {
      'log.ini': '[main]\nlevel=notice\n',
      'auth_flat_file.ini': `[core]\nmethods=PLAIN\nconstrain_sender=false\n[users]\n${users}`,
      'relay-guard/auth.ini': '[main]\nplaintext_allowed[] = 127.0.0.0/8\n',
      'relay-guard/acl.ini': '[reject]\n127.66.0.0/16 = a flood\n',
      'relay-guard/domains.ini': [
        `[main]\nanti_spoof_from = off\nsmarthost = ${smtp('internet')}\nsmarthost_tls = none\n`,
        section('forward.test', smtp('forward')),
        section('queue.test', smtp('queue'), 'delivery = queue\n'),
        section('lmtp.test', `lmtp://127.0.0.1:${ports.lmtp}`),
      ].join(''),
      'outbound.ini': 'temp_fail_intervals=5s,10s,20s*6\n',
      ...ourLimits(limits, { sinkPort: 0, redisPort }),
    },
  }
}
