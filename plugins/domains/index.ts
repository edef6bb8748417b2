// relay-guard/domains: which domains are ours, where their mail goes, and the last word on every recipient.
// See docs/domains.md.
import cluster from 'node:cluster'
import { allowLongLines } from '../../core/haraka/message'
import type { Connection, HarakaAddress, Next, Plugin } from '../../core/haraka/types'
import { hasWorkers } from '../../core/ini/host'
import { printConfigError } from '../../core/ini/parse'
import type { Reading } from '../../core/ini/reading'
import { Setting } from '../../core/ini/reload'
import { refuseStart } from '../../core/ini/start-errors'
import { ownListeners } from '../../core/net/own-listeners'
import { NextHopClient } from '../../core/next-hop/client'
import { prepare, registerHooks, shutdownPlugin } from '../../core/register'
import { registry } from '../../core/registry'
import { isRedisEnabled, services, sharedRedis } from '../../core/services'
import { counted } from '../../core/start-line'
import { Callouts } from './callout'
import { BUDGET } from './callout/questions'
import { RecipientStore } from './callout/store'
import { SharedTurns, serveTurns } from './callout/turns-ipc'
import { type DomainsConfig, readDomains } from './config'
import { informed } from './hooks/look-up'
import { HOOK_TIMEOUT } from './hooks/queue'
import { judge, runtime } from './hooks/runtime'
import { abandonDelivery } from './hooks/transaction'
import { queueWarnings } from './other-queues'
import { KnownDomains } from './redis/known'
import { DomainLookUp } from './redis/look-up'
import type { DomainTable } from './table'

export { bounce } from './hooks/bounce'
export { judge_message, last_look } from './hooks/data'
export { begin, judge_sender } from './hooks/mail'
export { never_to_mx, route } from './hooks/outbound'
export { hand_over, hand_over_relayed, keep_from_others, nobody_took_it } from './hooks/queue'
export { accept_ours, ask_next_hop, judge_recipient, last_word } from './hooks/rcpt'

/** Octets of a line of the message. RFC 5322 2.1.1 allows 998; Haraka cuts at 992, and real mail has longer ones. */
const LINE_LENGTH = 16 * 1024

/** Reads domains.ini and registers the hooks. Throws Error where Haraka must not start. */
export function register(this: Plugin): void {
  prepare(this)
  const smtp = (this.config.get('smtp.ini') as { main?: Record<string, unknown> } | undefined)?.main ?? {}
  const hostName = String(this.config.get('me') ?? '') || 'localhost'
  const ownListener = ownListeners(smtp)
  runtime.inactivity = (Number(smtp['inactivity_timeout']) || 300) * 1000
  runtime.lineLength = allowLongLines(this, LINE_LENGTH)
  this.timeout = HOOK_TIMEOUT
  const known = new KnownDomains({ log: (line) => this.logerror(line) })
  runtime.redis = new DomainLookUp({ known, redis: sharedRedis, log: (line) => this.lognotice(line) })
  const read = (reading: Reading) =>
    readDomains(reading, { ownListener, hostName, redis: { enabled: isRedisEnabled(), known } })
  runtime.domains = new Setting<DomainsConfig>(this, 'domains.ini', { read }, () => {
    if (!cluster.isPrimary) return
    for (const error of registry.usersGivenTwice?.() ?? []) this.logerror(printConfigError(error))
  })
  runtime.client = new NextHopClient({
    name: hostName,
    ownListener,
    log: (line, change) => this[change === 'down' ? 'logwarn' : 'lognotice'](line),
  })
  if (cluster.isPrimary && hasWorkers(this)) serveTurns()
  runtime.callouts = new Callouts({
    client: runtime.client,
    settings: () => runtime.domains.value.callouts,
    store: new RecipientStore({
      redis: sharedRedis,
      isUp: () => services.limiter?.source === 'redis',
      onFailure: () => services.limiter?.checkRedis(),
    }),
    limiter: () => services.limiter,
    ...(cluster.isWorker && { shared: new SharedTurns(BUDGET) }),
  })
  registry.firstDomain = () => runtime.domains.value?.domains.first?.name
  // Where its line stands before ours, auth.ini was read when this domain was not known.
  refuseStart(this, registry.usersGivenTwice?.() ?? [])
  registry.inForce.domains = () => printDomains(runtime.domains.value.domains)
  registerHooks(this)
  // Undefined where the file has errors: Haraka does not start then, once all of our lines have told theirs.
  if (!runtime.domains.value) return
  const { domains } = runtime.domains.value
  const pluginDomains = domains.asksRedis || domains.all().some(({ delivery }) => delivery === 'plugin')
  for (const line of queueWarnings((this.config.get('plugins', 'list') ?? []) as string[], pluginDomains))
    this.logwarn(line)
}

/** For the line at the start: `12 domains`, `12 domains and those in Redis`. */
const printDomains = (domains: DomainTable): string =>
  counted(domains.all().length, 'domain') + (domains.asksRedis ? ' and those in Redis' : '')

/** The stock relay plugin's dest_domains refuses every domain that it does not list, ours too: that is ours to decide. */
export const overrule = informed<[number, unknown, string, string, unknown]>(
  (next, connection, [, , plugin, method, hookParams]) => {
    if (plugin !== 'relay' || method !== 'dest_domains') return next(CONT)
    const { refused } = judge(connection, (hookParams as [HarakaAddress])[0])
    // Where it cannot be told whether it is ours, that is said next: nobody is refused for good.
    next(refused && refused.code >= 500 ? CONT : OK)
  },
  'asked',
)

/** Called by Haraka when it stops. */
export function shutdown(): void {
  shutdownPlugin()
  runtime.callouts.close()
  void runtime.client.closeAll()
}

/** At the end of a transaction: the next hop's, if it is still open, ends without a message. */
export function reset(this: Plugin, next: Next, connection: Connection): void {
  abandonDelivery(connection.transaction)
  next()
}
