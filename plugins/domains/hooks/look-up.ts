// Domains in Redis are looked up before the policies run, which ask nobody.
import { plain } from '../../../core/haraka/address'
import { mayRelay } from '../../../core/haraka/relaying'
import { guarded } from '../../../core/haraka/reply'
import type { Connection, Next, Plugin, Transaction } from '../../../core/haraka/types'
import { domainOf } from '../../../core/mail-address'
import { fromAddresses, valuesOf } from '../policy/header'
import { judgeFromSize } from '../policy/message'
import { runtime } from './runtime'
import { stateOf } from './transaction'

type Handler<P> = (this: Plugin, next: Next, connection: Connection, params: P) => unknown

/**
 * Like `guarded`; the handler runs when the domains that it may judge are looked up: those of MAIL FROM, of the
 * recipients, and of From:. `which`: all recipients, or those that the RCPT asks for that is not answered yet.
 */
export function informed<P = void>(handler: Handler<P>, which: 'all' | 'asked' = 'all') {
  return guarded<P>(function (next, connection, params) {
    const { transaction } = connection
    const wait = transaction && lookUp(hostsIn(connection, transaction, which))
    if (!wait) return handler.call(this, next, connection, params)
    return wait.then(() =>
      connection.transaction === transaction ? handler.call(this, next, connection, params) : next(),
    )
  })
}

/** Resolves when what can be known of these hosts is known; undefined where there is nothing to wait for. */
export function lookUp(hosts: Iterable<string>): Promise<unknown> | undefined {
  const { domains, postmaster } = runtime.domains.value
  if (!domains.asksRedis) return undefined
  const names = new Set<string>()
  for (const host of hosts) {
    const name = host === '' ? postmaster?.host : domainOf(host)
    for (const each of name ? domains.namesInRedis(name) : []) names.add(each)
  }
  return runtime.redis.lookUp(names)
}

function hostsIn(connection: Connection, transaction: Transaction, which: 'all' | 'asked'): string[] {
  const { domains, antiSpoof, antiSpoofFrom } = runtime.domains.value
  if (!domains.asksRedis) return []
  const { asked, octets, messageJudged } = stateOf(transaction)
  const { rcpt_to, mail_from, header } = transaction
  const from = which === 'all' ? 0 : Math.min(asked?.at ?? rcpt_to.length, rcpt_to.length - 1)
  const hosts = rcpt_to.slice(Math.max(from, 0)).map((recipient) => plain(recipient).host)
  // A client that may relay writes in whose name it likes.
  if (mayRelay(connection)) return hosts
  if (antiSpoof !== 'off' && mail_from) hosts.push(plain(mail_from).host)
  if (antiSpoofFrom !== 'off' && octets && !messageJudged) hosts.push(...authorHosts(header.lines()))
  return hosts
}

function authorHosts(fields: string[]): string[] {
  const values = valuesOf(fields, 'From')
  return judgeFromSize(values) ? [] : fromAddresses(values).map(({ host }) => host)
}
