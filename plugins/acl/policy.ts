// Who a client is: reject beats never, never beats relay and listener.
import type { Decision } from '../../core/decision'
import { formatIp, parseIp } from '../../core/net/ip'
import type { Classification, Client } from '../../core/relay-right'
import type { AclConfig, AclList } from './config'

/** The class of a client by acl.ini, with the entry that decides. */
export function classify(config: AclConfig, client: Client): Classification {
  for (const name of ['reject', 'never', 'relay'] as const) {
    const found = inList(config[name], client.ip)
    if (found) return { class: name, ...found }
  }
  if (config.listeners.length === 0) return NOBODY
  const local = parseIp(client.localIp ?? '')
  const localIp = local && formatIp(local)
  const listener = config.listeners.find(
    ({ ip, port, from }) =>
      ip === localIp &&
      (port === undefined || port === client.localPort) &&
      (from === undefined || from.lookup(client.ip) >= 0),
  )
  return listener ? { class: 'relay', rule: listener.rule } : NOBODY
}

const NOBODY: Classification = { class: 'nobody' }

/** The entry with the fewest addresses decides; `off` carves an exception out of a larger one. */
function inList({ table, describe }: AclList, ip: string) {
  const number = table.lookup(ip)
  if (number < 0) return undefined
  const { rule, label, off } = describe(number)
  return off ? undefined : { rule, label }
}

/** The decision about a client at connect; undefined for nobody in particular. */
export function judgeConnection(
  { class: kind, rule, label }: Classification,
  ip: string,
): Decision | undefined {
  if (kind === 'nobody' || !rule) return undefined
  const because = label ? `: ${label}` : ''
  if (kind !== 'reject') {
    const text = kind === 'never' ? `${ip} may never relay${because}` : `${ip} may relay${because}`
    return { outcome: `connection.${kind}`, code: 220, status: '2.0.0', text, rule }
  }
  const text = `${ip} is not welcome here${because}`
  return { outcome: 'connection.rejected', code: 554, status: '5.7.1', text, rule, close: true }
}
