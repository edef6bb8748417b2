// What makes a relay in practice although every line of acl.ini is right.
import { printRule } from '../../core/decision'
import type { IniSection } from '../../core/ini/parse'
import { formatIp } from '../../core/net/ip'
import { PrefixTable } from '../../core/net/prefix-table'
import { parseEntry, type Range } from '../../core/net/range'
import type { AclConfig, AclList } from '../../plugins/acl/config'
import { coverageOf, holdsEverybody, isEverybody, printCoverage } from './coverage'

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

/**
 * Errors: [relay], with its list files, lets nearly everybody relay, whom [never] and [reject] do not stop. Each names
 * the line that does it, or the section where only many together do.
 */
export function openRelays(acl: AclConfig, sections: IniSection[]): string[] {
  const may = inForce(acl.relay)
  const stopped = [...inForce(acl.never), ...inForce(acl.reject)]
  const coverage = coverageOf(may, stopped)
  if (!isEverybody(coverage)) return []
  const byValue = new Map<number, Range[]>()
  for (const range of may) {
    const ranges = byValue.get(range.value)
    if (ranges) ranges.push(range)
    else byValue.set(range.value, [range])
  }
  const files = [...byValue]
    .map(([value, ranges]) => ({ ...acl.relay.describe(value), coverage: coverageOf(ranges) }))
    .filter(({ rule }) => rule.section === 'files')
  const written = writtenRanges(sections).map(({ key, range }) => ({
    rule: { file: 'acl.ini', section: 'relay', key },
    coverage: coverageOf([range]),
  }))
  const wide = [...written, ...files].filter((entry) => isEverybody(entry.coverage))
  if (wide.length > 0)
    return wide.map(({ rule }) => `${printRule(rule)}: everybody may relay: this is an open relay`)
  return [
    `acl.ini [relay]: ${printCoverage(coverage)} may relay by all entries together: this is an open relay`,
  ]
}

/** Warnings: [listener] that asks nothing of the client, and private addresses that may stand for anybody. */
export function relayWarnings(acl: AclConfig, sections: IniSection[]): string[] {
  const alone = acl.listeners
    .filter(({ from }) => from === undefined || holdsEverybody(from))
    .map(
      ({ rule }) =>
        `${printRule(rule)}: whoever can reach this address may relay, and with IP forwarding on that may be everybody; write "= from" and your own subnet`,
    )
  const hidden = writtenRanges(sections)
    .filter(({ range }) => PRIVATE.lookup(formatIp(range.first)) >= 0 && !isEverybody(coverageOf([range])))
    .map(
      ({ key }) =>
        `acl.ini [relay] ${key}: a private address: where a NAT, proxy or container network hides the clients' own addresses, all of them may relay`,
    )
  return [...alone, ...hidden]
}

const inForce = ({ table, describe }: AclList): (Range & { value: number })[] =>
  [...table.ranges()].filter(({ value }) => !describe(value).off)

/** The lines of [relay] that can be read and are no exceptions. */
function writtenRanges(sections: IniSection[]): { key: string; range: Range }[] {
  const relay = sections.find(({ name }) => name === 'relay')?.entries ?? []
  return relay.flatMap(({ key, value }) => {
    if (/^off$/i.test(value ?? '')) return []
    try {
      return [{ key, range: parseEntry(key) }]
    } catch {
      return []
    }
  })
}
