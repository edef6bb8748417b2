// Everything that `check` looks at on this machine, read by the server's own readers.
import { join } from 'node:path'
import { fieldsOf } from '../../core/ini/fields'
import type { ConfigError, IniSection } from '../../core/ini/parse'
import { iniPath, type Reading, readingOf } from '../../core/ini/reading'
import { packageDir } from '../../core/paths'
import { type RedisConfig, readRedis } from '../../core/redis/config'
import { runAtOnce } from '../../core/time-slices'
import { type AclConfig, readAcl } from '../../plugins/acl/config'
import { type AuthConfig, readAuth } from '../../plugins/auth/config'
import { type DomainsConfig, readDomains, type World } from '../../plugins/domains/config'
import { readLimits } from '../../plugins/limits/config'
import { type OverloadConfig, readOverload } from '../../plugins/overload/config'
import { pluginLines, worldOf } from '../haraka-dir'
import { readAliases } from './aliases'

/** One configuration, whole. */
export interface Configuration {
  world: World
  /** The lines of config/plugins. */
  lines: string[]
  errors: ConfigError[]
  acl: AclConfig
  auth: AuthConfig
  domains: DomainsConfig
  redis: RedisConfig
  overload: OverloadConfig
  /** What haraka-plugin-aliases reads, if its line is there. */
  aliases: ReturnType<typeof readAliases>
  /** `host_list` in domains.ini. */
  hostList: boolean
  /** The sections of acl.ini as they are written. */
  aclSections: IniSection[]
  /** Plugins whose ini file says something that the one of the package does not, e.g. `acl`. */
  filled: string[]
}

/** Reads the ini files, config/plugins, smtp.ini and me of Haraka's directory; harakaAt must have found it before. */
export function readConfiguration(dir: string): Configuration {
  const world = worldOf(dir)
  const errors: ConfigError[] = []
  const filled: string[] = []
  const read = <T>(plugin: string, reader: (reading: Reading) => T): { value: T; sections: IniSection[] } => {
    const file = `${plugin}.ini`
    const reading = readingOf(file, iniPath(dir, file), new Map())
    const value = reader(reading)
    for (const error of reading.errors) errors.push(error)
    const shipped = readingOf(file, join(packageDir, 'config', 'relay-guard', file), new Map())
    const usual = new Set(said(shipped.sections))
    if (said(reading.sections).some((entry) => !usual.has(entry))) filled.push(plugin)
    return { value, sections: reading.sections }
  }
  const acl = read('acl', (reading) => runAtOnce(readAcl(reading)))
  const redis = read('redis', readRedis)
  const domains = read('domains', (reading) =>
    readDomains(reading, { ...world, redis: { enabled: redis.value.enabled } }),
  )
  const lines = pluginLines(dir)
  const firstDomain = lines.includes('relay-guard/domains') ? domains.value.domains.first?.name : undefined
  const auth = read('auth', (reading) => readAuth(reading, firstDomain))
  read('limits', readLimits)
  const overload = read('overload', readOverload)
  return {
    world,
    lines,
    aliases: lines.includes('aliases') ? readAliases(dir) : undefined,
    errors: errors.sort((a, b) => a.file.localeCompare(b.file)),
    acl: acl.value,
    auth: auth.value,
    domains: domains.value,
    redis: redis.value,
    overload: overload.value,
    hostList: fieldsOf('domains.ini', domains.sections, 'main', []).flag('host_list', false),
    aclSections: acl.sections,
    filled,
  }
}

/** Every key with its section and value, in one text each. */
const said = (sections: IniSection[]): string[] =>
  sections.flatMap(({ name, entries }) =>
    entries.map(({ key, value }) => JSON.stringify([name, key, value ?? null])),
  )
