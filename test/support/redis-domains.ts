// What a worker knows of domains in Redis, in time that the test moves.
import { type DomainsConfig, readDomains } from '../../plugins/domains/config'
import { KnownDomains } from '../../plugins/domains/redis/known'
import { readText } from './reading'

export const HOP = { next_hop: 'smtp://10.0.0.5' }
export const section = {
  ownListener: (ip: string, port: number) => ip === '127.0.0.1' && port === 25,
  hostName: 'mx',
}

/** A worker's knowledge, with a clock that the test moves. */
export function world(ini = '[main]\nredis = true\n', capacity?: number) {
  const time = { now: 1_000_000 }
  const log: string[] = []
  const now = () => time.now
  const known = new KnownDomains({ now, log: (line) => void log.push(line), ...(capacity && { capacity }) })
  const redis = { enabled: true, known }
  const read = (text: string) =>
    readText('domains.ini', text, (reading) => readDomains(reading, { ...section, redis })).value
  return {
    time,
    log,
    known,
    read,
    now,
    config: read(ini),
    learn: (name: string, answer: object | 'none' | 'no hash') =>
      known.learn(name, answer as Record<string, string>, time.now),
  }
}

/** `FILE SECTION` of the domain that a host is in, `cannot tell`, or `not ours`. */
export const nameOf = (config: DomainsConfig, host: string) => {
  const found = config.domains.find(host)
  return typeof found === 'object' ? `${found.file} ${found.section}` : (found ?? 'not ours')
}
