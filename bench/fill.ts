// Much in Redis: counters of many subjects, those that one real session has left, copied to other names; and domains.
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { encodeSubject, makeKeys } from '../core/redis/keys'
import { addressAt, HOSTS, NETWORKS } from './addresses'
import { converse } from './dialogue'
import type { Clients } from './load'
import { BATCHES_MS } from './server'

/** So few a script that Haraka, which shares this Redis, does not take it for hung. */
const AT_ONCE = 4000

/**
 * ARGV: numbers from (and before) which subjects are made; NETWORKS, HOSTS, the two octets; for each key what stands
 * before and behind the subject, and whether that is an ip or a network. The names are those of addressAt.
 */
const SCRIPT = `
local networks, hosts, first, second = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
for number = tonumber(ARGV[1]), tonumber(ARGV[2]) - 1 do
  local row = math.floor(number / networks)
  local net = string.format('%s.%d.%d.', first, second + math.floor(row / hosts), number % networks)
  for at = 1, #KEYS do
    local before, behind, scope = ARGV[4 + 3 * at], ARGV[5 + 3 * at], ARGV[6 + 3 * at]
    if scope == 'ip' then
      redis.call('COPY', KEYS[at], before .. net .. (row % hosts + 1) .. behind)
    elseif row % hosts == 0 then
      redis.call('COPY', KEYS[at], before .. net .. '0%2F24' .. behind)
    end
  end
end`

/** A key of the real session. */
interface Template {
  key: string
  /** What stands before and behind the subject in it, and what the subject is. */
  parts: [before: string, behind: string, scope: string]
}

async function keysOf(client: Redis, scope: string, subject: string): Promise<Template[]> {
  const name = encodeSubject(subject)
  const [before = ''] = makeKeys('relay-guard:').rate(scope, subject, '').split(name)
  const keys = await client.keys(`${before}${name}}:*`)
  return keys.map((key) => ({ key, parts: [before, key.slice(before.length + name.length), scope] }))
}

/**
 * Fills the Redis of the Haraka at `port` with the counters of all these clients and of their networks, as if each had
 * sent a message. Throws when a real session leaves no counters.
 */
export async function fillCounters(port: number, redisPort: number, clients: Clients): Promise<void> {
  const from = addressAt(clients.network, 0)
  await converse({ port, from, sender: 'ann@client.example', recipient: 'bob@local.test' })
  await sleep(BATCHES_MS)
  const client = new Redis(redisPort, '127.0.0.1')
  try {
    const templates = [
      ...(await keysOf(client, 'ip', from)),
      ...(await keysOf(client, 'network', from.replace(/\d+$/, '0/24'))),
    ]
    if (templates.length < 2) throw new Error('a session has left no counters to copy')
    await copyAll(client, templates, clients)
  } finally {
    client.disconnect()
  }
}

async function copyAll(client: Redis, templates: Template[], { network, addresses }: Clients): Promise<void> {
  const keys = templates.map(({ key }) => key)
  const names = [NETWORKS, HOSTS, ...network.split('.'), ...templates.flatMap(({ parts }) => parts)]
  // Number 0 is the one that is copied.
  for (let number = 1; number < addresses; number += AT_ONCE) {
    const range = [number, Math.min(addresses, number + AT_ONCE)]
    await client.eval(SCRIPT, keys.length, ...keys, ...range, ...names)
  }
}

/** Fills a Redis with the domains d0.local.test and so on, whose next hop is the sink. */
export async function fillDomains(redisPort: number, sinkPort: number, count: number): Promise<void> {
  const { domain } = makeKeys('relay-guard:')
  const fields = { next_hop: `smtp://127.0.0.1:${sinkPort}`, tls: 'none', verify: 'none' }
  const client = new Redis(redisPort, '127.0.0.1')
  try {
    for (let first = 0; first < count; first += AT_ONCE) {
      const pipeline = client.pipeline()
      for (let at = first; at < Math.min(first + AT_ONCE, count); at++)
        pipeline.hset(domain(`d${at}.local.test`), fields)
      await pipeline.exec()
    }
  } finally {
    client.disconnect()
  }
}
