// limits.ini → LimitsConfig. A section is a sentence, `[WHAT per WHOM]`.

import { Fields, fieldsOf } from '../../core/ini/fields'
import { nearest } from '../../core/ini/nearest'
import type { ConfigError, IniSection } from '../../core/ini/parse'
import type { Reading } from '../../core/ini/reading'
import { parseRate, type Rate, unlimited } from '../../core/limiter/rate'
import { addressExceptions, type Exception, type Exceptions, nameExceptions } from './exceptions'
import { ipOf, type Scope } from './subjects'

/** The file, as rules name it. */
export const FILE = 'limits.ini'

const ENVELOPE = ['ip', 'network', 'user', 'sender', 'sender domain'] as const

/** What is counted, and for whom it can be. */
const PAIRS = {
  connections: ['ip', 'network'],
  'concurrent connections': ['ip', 'network'],
  messages: ENVELOPE,
  recipients: [...ENVELOPE, 'recipient', 'recipient domain', 'message'],
  bytes: [...ENVELOPE, 'recipient domain'],
  'failed logins': ['ip', 'network', 'user'],
  'refused recipients': ['ip', 'network'],
  errors: ['connection'],
} as const satisfies Record<string, readonly Scope[]>

/** The first half of a section: what is counted. */
export type What = keyof typeof PAIRS

const OPTIONS = ['limit', 'action', 'block']
const STRANGERS_CHOOSE: Scope[] = ['sender', 'sender domain', 'recipient', 'recipient domain']
const WITHOUT_SUBJECT: Scope[] = ['message', 'connection']

/** One section of limits.ini. */
export interface Limit {
  what: What
  scope: Scope
  section: string
  rate: Rate
  action: 'defer' | 'reject' | 'shadow'
  /** Once over, refuse everything of this subject for so long, ms; 0: only what is over. */
  block: number
  exceptions: Exceptions
}

/** limits.ini, read. */
export interface LimitsConfig {
  /** By section: `recipients per ip`. */
  limits: Map<string, Limit>
  /** The same, as each step looks for them. */
  perScope: Partial<Record<Scope, Map<What, Limit>>>
  ipv6Prefix: number
  exemptRelay: boolean
}

const SECTIONS = new Map<string, { what: What; scope: Scope }>(
  (Object.keys(PAIRS) as What[]).flatMap((what) =>
    PAIRS[what].map((scope) => [`${what} per ${scope}`, { what, scope }] as const),
  ),
)

/** Reads limits.ini; errors go to `reading.errors`. */
export function readLimits({ sections, errors }: Reading): LimitsConfig {
  const main = fieldsOf(FILE, sections, 'main', errors)
  const config: LimitsConfig = {
    limits: new Map(),
    perScope: {},
    ipv6Prefix: main.read('ipv6_prefix', 64, readIpv6Prefix),
    exemptRelay: main.flag('exempt_relay', true),
  }
  main.done()
  for (const section of sections) {
    if (section.name === 'main') continue
    const pair = SECTIONS.get(section.name)
    if (pair) add(config, readLimit(section, pair, config.ipv6Prefix, errors))
    else errors.push({ file: FILE, section: section.name, key: '', text: noPair(section.name) })
  }
  return config
}

function add({ limits, perScope }: LimitsConfig, limit: Limit): void {
  const { section, what, scope } = limit
  limits.set(section, limit)
  const those = perScope[scope] ?? new Map<What, Limit>()
  perScope[scope] = those.set(what, limit)
}

function readIpv6Prefix(text: string): number {
  const bits = /^\d{2,3}$/.test(text) ? Number(text) : 0
  if (bits < 48 || bits > 128) throw new Error(`"${text}" is not a prefix length, allowed: 48 to 128`)
  return bits
}

function noPair(name: string): string {
  const what = (Object.keys(PAIRS) as What[]).find((known) => name.toLowerCase().startsWith(`${known} per `))
  const near = nearest(
    name,
    what ? [...SECTIONS.keys()].filter((key) => key.startsWith(what)) : SECTIONS.keys(),
  )
  const known = what
    ? `${what} are counted per ${PAIRS[what].join(', ')}`
    : `a section is [WHAT per WHOM], WHAT one of ${Object.keys(PAIRS).join(', ')}`
  return `is not a limit; ${near ? `did you mean [${near}]? ` : ''}${known}`
}

function readLimit(
  section: IniSection,
  { what, scope }: { what: What; scope: Scope },
  ipv6Prefix: number,
  errors: ConfigError[],
): Limit {
  const fields = new Fields(FILE, section, errors)
  const wrong = (key: string, text: string) => fields.wrong(key, text)
  if (!fields.has('limit')) wrong('limit', `is missing; write limit = ${exampleOf(what, scope)}`)
  const example = hasWindows(what, scope) ? `limit = ${exampleOf(what, scope)}` : undefined
  const rate = fields.read('limit', unlimited, (text) => readRate(text, what, scope), example)
  const action = fields.choice('action', 'defer', ['defer', 'reject', 'shadow'])
  const block = fields.duration('block', 0)
  if (STRANGERS_CHOOSE.includes(scope)) {
    const why = `is not possible per ${scope}: strangers choose that name, and could shut others out`
    if (action === 'reject') wrong('action', `reject ${why}; allowed are defer and shadow`)
    if (block) wrong('block', why)
  }
  if (block && WITHOUT_SUBJECT.includes(scope))
    wrong('block', `is not possible per ${scope}, which ends by itself`)
  const exceptions = readExceptions(section, fields, scope, (text) => readRate(text, what, scope))
  const find = (): Exceptions => {
    if (scope === 'ip' || scope === 'network')
      return addressExceptions(exceptions, (ip) => ipOf(ip, ipv6Prefix), wrong)
    if (!WITHOUT_SUBJECT.includes(scope)) return nameExceptions(scope, exceptions, wrong)
    for (const { key } of exceptions) wrong(key, `is not possible per ${scope}; known: ${OPTIONS.join(', ')}`)
    return () => undefined
  }
  return { what, scope, section: section.name, rate, action, block, exceptions: find() }
}

const hasWindows = (what: What, scope: Scope): boolean =>
  what !== 'concurrent connections' && scope !== 'message' && scope !== 'connection'

function exampleOf(what: What, scope: Scope): string {
  if (!hasWindows(what, scope)) return '20'
  return what === 'bytes' ? '500M/1h' : '30/1m, 300/1h'
}

function readRate(text: string, what: What, scope: Scope): Rate {
  const rate = parseRate(text)
  const write = `write ${exampleOf(what, scope)} or unlimited`
  if (rate.most !== undefined && hasWindows(what, scope)) throw new Error(`"${text}" has no window; ${write}`)
  if (rate.windows.length && !hasWindows(what, scope)) throw new Error(`"${text}" has a window; ${write}`)
  return rate
}

/** How many edits make an option out of a key that was meant as one, beside a limit that can be read. */
const slipOf = (key: string): number => (key.length < 5 ? 1 : 2)

/** A name that is nearly an option, in quotes: so a user may have it. */
const isQuoted = (key: string): boolean => {
  const name = /^"(.+)"$/.exec(key)?.[1]
  return name !== undefined && nearest(name, OPTIONS, slipOf(name)) !== undefined
}

/**
 * All keys that are no option. One that is nearly an option is an error also where its limit can be read: `limt` was
 * taken for a user of that name, and the limit that it was meant to be was not there.
 */
function readExceptions(
  section: IniSection,
  fields: Fields,
  scope: Scope,
  parse: (text: string) => Rate,
): Exception[] {
  const keys = new Set(section.entries.map(({ key }) => key).filter((key) => !OPTIONS.includes(key)))
  const wrong = (near: string) => new Error(`is not a key of this section; did you mean ${near}?`)
  return [...keys].flatMap((key) => {
    const rate = fields.read(key, undefined, (text): Rate | undefined => {
      let found: Rate
      try {
        found = parse(text)
      } catch (error) {
        const near = nearest(key, OPTIONS)
        throw near ? wrong(near) : error
      }
      const near = nearest(key, OPTIONS, slipOf(key))
      if (!near) return found
      const { message } = wrong(near)
      throw new Error(scope === 'user' ? `${message} A user of that name is written "${key}"` : message)
    })
    return rate ? [{ key: isQuoted(key) ? key.slice(1, -1) : key, rate }] : []
  })
}
