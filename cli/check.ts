// relay-guard check: the server's own readers on the files, what makes a relay in practice, and each next hop asked.

import { type ConfigError, type IniSection, printConfigError } from '../core/ini/parse'
import { iniPath, type Reading, readingOf } from '../core/ini/reading'
import { formatIp } from '../core/net/ip'
import { PrefixTable } from '../core/net/prefix-table'
import { parseEntry } from '../core/net/range'
import { printNextHop } from '../core/next-hop/address'
import { NextHopClient } from '../core/next-hop/client'
import type { Route } from '../core/next-hop/route'
import { type RedisConfig, readRedis } from '../core/redis/config'
import { closeRedis, openRedis, whenReady } from '../core/redis/connection'
import { runAtOnce } from '../core/time-slices'
import { type AclConfig, readAcl } from '../plugins/acl/config'
import { readAuth } from '../plugins/auth/config'
import { type DomainsConfig, readDomains } from '../plugins/domains/config'
import { readLimits } from '../plugins/limits/config'
import type { Call } from './call'
import { harakaAt, pluginLines, worldOf } from './haraka-dir'
import { pluginWarnings } from './plugin-lines'

interface Report {
  mistakes: string[]
  warnings: string[]
  nextHops: { domain: string; nextHop: string; ok: boolean; said: string }[]
  /** Undefined: not asked, because limits is not loaded or Redis is switched off. */
  redis?: { ok: boolean; said: string }
}

export async function check({ dir, json, print }: Call): Promise<0 | 1> {
  harakaAt(dir)
  const world = worldOf(dir)
  const errors: ConfigError[] = []
  const read = <T>(name: string, reader: (reading: Reading) => T): { value: T; sections: IniSection[] } => {
    const reading = readingOf(name, iniPath(dir, name), new Map())
    const value = reader(reading)
    errors.push(...reading.errors)
    return { value, sections: reading.sections }
  }
  const acl = read('acl.ini', (reading) => runAtOnce(readAcl(reading)))
  const auth = read('auth.ini', readAuth)
  const domains = read('domains.ini', (reading) => readDomains(reading, world))
  read('limits.ini', readLimits)
  const redis = read('redis.ini', readRedis)
  const lines = pluginLines(dir)
  const all = domains.value.domains.all()
  const report: Report = {
    mistakes: errors.map(printConfigError),
    warnings: [
      ...(lines.some((line) => line.startsWith('relay-guard/'))
        ? []
        : ['config/plugins: no line of relay-guard is there']),
      ...pluginWarnings(lines, {
        pluginDomains: all.some(({ delivery }) => delivery === 'plugin'),
        users: auth.value.users.size > 0,
      }),
      ...relayWarnings(acl.value, acl.sections),
      ...domainWarnings(domains.value, lines),
    ],
    nextHops: errors.length > 0 ? [] : await askNextHops(domains.value, world.hostName),
  }
  if (errors.length === 0 && redis.value.enabled && lines.includes('relay-guard/limits'))
    report.redis = await askRedis(redis.value)
  if (json) print(JSON.stringify(report))
  else say(report, print)
  return report.mistakes.length > 0 || report.nextHops.some(({ ok }) => !ok) || report.redis?.ok === false
    ? 1
    : 0
}

/** Redis away is no reason not to start, but counters are then of one host, and statistics are not kept. */
async function askRedis(settings: RedisConfig): Promise<{ ok: boolean; said: string }> {
  const client = openRedis(settings)
  try {
    await whenReady(client, 2000)
    return { ok: true, said: 'answers' }
  } catch (error) {
    const why = (error as Error).message
    return {
      ok: false,
      said: `${why}; without it workers of one host count together; if that is meant, write enabled = false in redis.ini`,
    }
  } finally {
    await closeRedis(client)
  }
}

function say({ mistakes, warnings, nextHops, redis }: Report, print: (line: string) => void): void {
  for (const mistake of mistakes) print(`error: ${mistake}`)
  for (const warning of warnings) print(`warning: ${warning}`)
  for (const { domain, nextHop, ok, said } of nextHops)
    print(`${ok ? 'reached' : 'NOT reached'}: ${nextHop} for ${domain}: ${said}`)
  if (redis) print(`${redis.ok ? 'reached' : 'NOT reached'}: Redis: ${redis.said}`)
  if (mistakes.length === 0) print('The ini files are good.')
}

/** By the first 32 bits. All unicast addresses of IPv6 are in 2000::/3 (RFC 4291 2.4). */
const HALF_OF_IPV4 = 0x7fffffff
const ALL_IPV6_UNICAST = 0x1fffffff

const PRIVATE = PrefixTable.of(
  [
    '10.0.0.0/8',
    '172.16.0.0/12',
    '192.168.0.0/16',
    '100.64.0.0/10',
    '127.0.0.0/8',
    'fc00::/7',
    'fe80::/10',
    '::1',
  ].map(parseEntry),
)

/** What makes a relay in practice although every line is right. */
function relayWarnings(acl: AclConfig, sections: IniSection[]): string[] {
  const alone = acl.listeners
    .filter(({ from }) => from === undefined)
    .map(
      ({ rule }) =>
        `acl.ini [listener] ${rule.key}: whoever can reach this address may relay, and with IP forwarding on that may be everybody; add "= from SUBNET"`,
    )
  const relay = sections.find(({ name }) => name === 'relay')?.entries ?? []
  const wide = relay.flatMap(({ key, value }) => {
    if (/^off$/i.test(value ?? '')) return []
    try {
      const { family, first, last } = parseEntry(key)
      if (last[0]! - first[0]! >= (family === 4 ? HALF_OF_IPV4 : ALL_IPV6_UNICAST))
        return [`acl.ini [relay] ${key}: everybody may relay: this is an open relay`]
      if (PRIVATE.lookup(formatIp(first)) < 0) return []
      return [
        `acl.ini [relay] ${key}: a private address: where a NAT, proxy or container network hides the clients' own addresses, all of them may relay`,
      ]
    } catch {
      return []
    }
  })
  return [...alone, ...wide]
}

function domainWarnings(config: DomainsConfig, lines: string[]): string[] {
  const warnings: string[] = []
  const all = config.domains.all()
  if (all.length === 0) warnings.push('domains.ini: no domain is ours, so no mail from outside is taken')
  if (config.antiSpoof !== 'off' && all.length > 0 && !lines.includes('spf')) {
    warnings.push(
      'domains.ini [main] anti_spoof: without the spf plugin, hosts in your own SPF records are taken for forgers too, unless spoof_allowed names them',
    )
  }
  if (config.bounce === 'send') {
    warnings.push('domains.ini [main] bounce = send: DSNs go to senders that may be forged (backscatter)')
  }
  for (const { name, delivery, verify, recipients } of all) {
    if (delivery === 'queue' && verify === 'callout' && !recipients) {
      warnings.push(
        `domains.ini [${name}]: with delivery = queue this version accepts every recipient; list them with recipients[] or use delivery = forward`,
      )
    }
  }
  return warnings
}

/** RCPT TO:<postmaster@DOMAIN>, which every server must take (RFC 5321 4.5.1), and then RSET: no mail is sent. */
async function askNextHops(config: DomainsConfig, hostName: string): Promise<Report['nextHops']> {
  const client = new NextHopClient({ name: hostName, budget: 10_000 })
  const questions = config.domains
    .all()
    .flatMap(({ name, route }) => (route ? hopsOf(route).map((one) => ({ name, one })) : []))
  const answers = await Promise.all(
    questions.map(async ({ name, one }) => {
      const delivery = client.open(one.route, { mailFrom: '' })
      const reply = await delivery.rcpt(`postmaster@${name}`)
      delivery.abort()
      return {
        domain: name,
        nextHop: one.text,
        ok: reply.answered,
        said: `${reply.code} ${reply.status ?? ''} ${reply.text}`.replace(/ +/g, ' '),
      }
    }),
  )
  await client.closeAll()
  return answers
}

/** Each host by itself; MX hosts are looked up and asked as one. */
function hopsOf(route: Route): { text: string; route: Route }[] {
  if (typeof route.hops === 'function') return [{ text: 'mx', route }]
  return route.hops.map((hop) => ({
    text: printNextHop(hop),
    route: { ...route, key: `${route.key} ${printNextHop(hop)}`, hops: [hop] },
  }))
}
