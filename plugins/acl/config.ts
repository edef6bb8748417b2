// acl.ini → AclConfig: three tables of addresses, and the listeners that give a right by themselves.

import type { Rule } from '../../core/decision'
import { type Fields, fieldsOf, knownSections } from '../../core/ini/fields'
import { isEmpty } from '../../core/ini/files'
import type { IniSection } from '../../core/ini/parse'
import { EMPTY, type Reading } from '../../core/ini/reading'
import { parseHostPort } from '../../core/net/host-port'
import { formatIp, parseIp, parseV6 } from '../../core/net/ip'
import { PrefixTable, PrefixTableBuilder } from '../../core/net/prefix-table'
import type { Range } from '../../core/net/range'
import { parsePrefix } from '../../core/net/range'
import { entries } from '../../core/net/range-file'
import type { CooperativeTask } from '../../core/time-slices'

const FILE = 'acl.ini'
const LISTS = ['reject', 'never', 'relay'] as const

/** One list, and what its entries say. An entry's number in the table leads back to its line. */
export interface AclList {
  table: PrefixTable
  /** How many entries it has, with those of its files. */
  size: number
  describe(number: number): { rule: Rule; label: string; off: boolean }
}

interface Listener {
  ip: string
  /** undefined: any port. */
  port?: number
  /** undefined: from anywhere. */
  from?: PrefixTable
  rule: Rule
}

/** acl.ini, ready to look clients up in. */
export type AclConfig = Record<(typeof LISTS)[number], AclList> & { listeners: Listener[] }

/** Reads acl.ini and its list files; errors go to `reading.errors`. */
export function* readAcl(reading: Reading): CooperativeTask<AclConfig> {
  const { sections, errors } = reading
  knownSections(FILE, sections, [...LISTS, 'listener', 'files'], errors)
  const files = fieldsOf(FILE, sections, 'files', errors)
  const lists = {} as AclConfig
  for (const name of LISTS) lists[name] = yield* readList(name, reading, files)
  files.done()
  const listeners = sections.find((section) => section.name === 'listener')
  return { ...lists, listeners: listeners ? readListeners(listeners, reading) : [] }
}

interface Written {
  key: string
  label: string
  off: boolean
}

/** The entries of a section take the first numbers, then each file takes as many as it has lines. */
function* readList(name: (typeof LISTS)[number], reading: Reading, files: Fields): CooperativeTask<AclList> {
  const { sections, errors } = reading
  const wrong = (key: string, text: string) => errors.push({ file: FILE, section: name, key, text })
  const written: Written[] = []
  const parts: { path: string; base: number }[] = []
  const describe = (number: number) => {
    const own = written[number]
    const part = [...parts].reverse().find(({ base }) => base <= number)
    const rule: Rule = own
      ? { file: FILE, section: name, key: own.key }
      : { file: FILE, section: 'files', key: `${name}[] = ${part?.path} line ${number - (part?.base ?? 0)}` }
    return { rule, label: own?.label ?? '', off: own?.off ?? false }
  }
  const builder = new PrefixTableBuilder((a, b) => {
    const [one, two] = [describe(a), describe(b)]
    // Lists from elsewhere repeat themselves, and a line written by hand carves its exception out of them.
    if (one.rule.section === 'files' || two.rule.section === 'files') return
    if (one.off === two.off) wrong(two.rule.key, `says the same as ${one.rule.key}`)
    else wrong(two.rule.key, `contradicts ${one.rule.key}, which has as many addresses`)
  })
  for (const { key, value = '' } of sections.find((s) => s.name === name)?.entries ?? []) {
    const range = attempt(key, (text) => wrong(key, text))
    const off = /^off$/i.test(value)
    // As a label it would do the opposite of what it says.
    if (!off && /^(?:off(?![\w-])|no$|false$|disabled$)/i.test(value))
      wrong(key, `"${value}" is neither an exception nor a label; write off alone for an exception`)
    if (range) builder.add(range, written.push({ key, label: off ? '' : value, off }) - 1)
  }
  const paths = files.list(name, (text) => text)
  if (files.isEmpty(name)) files.wrong(name, 'names no file')
  let base = written.length
  for (const path of paths) {
    parts.push({ path, base })
    base += (yield* readFile(path, reading, base, builder)) + 1
  }
  return { table: yield* builder.work(), size: builder.size, describe }
}

function* readFile(
  path: string,
  { open, errors }: Reading,
  base: number,
  builder: PrefixTableBuilder,
): CooperativeTask<number> {
  const wrong = (text: string) => errors.push({ file: FILE, section: 'files', key: path, text })
  let lines = 0
  try {
    const data = open(path)
    // Downloads that failed leave such files, and an empty [never] would let everybody relay who logs in.
    if (isEmpty(data)) throw new Error(EMPTY)
    const found = yield* entries(data, (line, entry) => {
      lines = line
      builder.add(parsePrefix(entry), base + line)
    })
    for (const text of found) wrong(text)
  } catch (error) {
    wrong((error as Error).message)
  }
  return lines
}

function attempt(text: string, wrong: (text: string) => void): Range | undefined {
  try {
    return parsePrefix(text)
  } catch (error) {
    wrong((error as Error).message)
    return undefined
  }
}

/** `ADDRESS`, `ADDRESS:PORT` or `[IPv6]:PORT`; no ip where it is none of them. */
function localEnd(text: string): { ip: string; port?: number | undefined } {
  try {
    const { host, port } = parseV6(text) ? { host: text, port: undefined } : parseHostPort(text)
    const address = parseIp(host)
    return address ? { ip: formatIp(address), port } : { ip: '' }
  } catch {
    return { ip: '' }
  }
}

function readListeners(section: IniSection, { errors }: Reading): Listener[] {
  const seen = new Set<string>()
  return section.entries.flatMap(({ key, value }) => {
    const wrong = (text: string) => errors.push({ file: FILE, section: section.name, key, text })
    const { ip, port } = localEnd(key)
    if (ip === '' || ip === '::' || ip === '0.0.0.0') {
      wrong('is not a local address; allowed are ADDRESS, ADDRESS:PORT and [IPv6]:PORT')
      return []
    }
    const name = `${ip} ${port ?? 0}`
    if (seen.has(name)) wrong('is given twice')
    seen.add(name)
    const subnets = (/^from\s(.+)$/i.exec(value ?? '')?.[1] ?? '')
      .split(',')
      .map((text) => text.trim())
      .filter((text) => text !== '')
    // Anything else would be a right for everybody, for want of a word spelled right.
    if (value !== undefined && subnets.length === 0) wrong(`"${value}" is not "from SUBNET"`)
    const ranges = subnets
      .map((text) => attempt(text, (problem) => wrong(`${text}: ${problem}`)))
      .filter((range) => range !== undefined)
    return [
      {
        ip,
        ...(port !== undefined && { port }),
        ...(value !== undefined && { from: PrefixTable.of(ranges) }),
        rule: { file: FILE, section: section.name, key },
      },
    ]
  })
}
