// One connection to Redis a process, shared by all plugins. Nothing waits for it: while it is away every command
// fails at once, and none is kept or sent again, so that nothing is counted late or twice.
import { Cluster, Redis } from 'ioredis'
import type { RedisSettings } from './endpoint'
import { printError } from './errors'
import { SeedLookup } from './seeds'

/** A connection as ioredis keeps it: to one server, by itself or by its sentinels, or to the nodes of a Cluster. */
export type Client = Redis | Cluster

/** Between two tries to connect, in ms: the way back to Redis may take 2 s. */
const RETRY = 500

/** Options of each single connection. */
function connectionOptions({ base, timeout }: RedisSettings) {
  const { username, password, tls } = base
  return {
    connectionName: `relay-guard-${process.pid}`,
    connectTimeout: 1000,
    // A black-holed connection is given up when something has been outstanding for so long.
    socketTimeout: Math.max(4 * timeout, 2000),
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    // A master that became a replica: the new connection may reach the new master.
    reconnectOnError: (error: Error) => error.message.includes('READONLY'),
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    ...(tls && { tls }),
  }
}

const seedsOf = new WeakMap<Client, SeedLookup>()

function connect(settings: RedisSettings): Client {
  const { base, cluster, sentinel, sentinelName, sentinelAccess: access = {} } = settings
  const options = connectionOptions(settings)
  if (cluster.length) {
    const seeds = new SeedLookup()
    const client = new Cluster(cluster, {
      enableOfflineQueue: false,
      dnsLookup: seeds.lookup,
      clusterRetryStrategy: () => RETRY,
      clusterNodeRetryStrategy: () => RETRY,
      slotsRefreshInterval: 5000,
      slotsRefreshTimeout: 1000,
      maxRedirections: 4,
      retryDelayOnFailover: 50,
      retryDelayOnClusterDown: 50,
      retryDelayOnTryAgain: 20,
      redisOptions: options,
    })
    seedsOf.set(client, seeds)
    return client
  }
  const db = base.database ?? 0
  if (!sentinel.length) {
    const where = base.path === undefined ? { host: base.host, port: base.port } : { path: base.path }
    return new Redis({ ...options, ...where, db, retryStrategy: () => RETRY })
  }
  return new Redis({
    ...options,
    db,
    sentinels: sentinel,
    name: sentinelName,
    sentinelRetryStrategy: () => RETRY,
    sentinelCommandTimeout: 1000,
    ...(access.username !== undefined && { sentinelUsername: access.username }),
    ...(access.password !== undefined && { sentinelPassword: access.password }),
    ...(access.tls && { sentinelTLS: access.tls }),
    enableTLSForSentinelMode: base.tls !== undefined,
    failoverDetector: true,
    retryStrategy: () => RETRY,
  })
}

/** A command that comes this long (ms) after the one before is sent at once: it has nobody to wait for. */
const ALONE = 1
const lastWrite = new WeakMap<Client, number>()
const gathering = new WeakSet<Redis>()

/**
 * To be called before a command: all commands of this turn of the event loop and the next one leave in one write, for
 * both sides have more work with a system call than with a command. The second turn is empty where there is nothing to
 * do, and halves the writes where there is much. On a Cluster each command leaves by itself.
 */
export function gatherWrites(client: Client): void {
  if (client instanceof Cluster || client.status !== 'ready' || gathering.has(client)) return
  const now = performance.now()
  const alone = now - (lastWrite.get(client) ?? 0) > ALONE
  lastWrite.set(client, now)
  if (alone) return
  const { stream } = client
  const send = () => {
    gathering.delete(client)
    stream.uncork()
  }
  gathering.add(client)
  stream.cork()
  setImmediate(() => setImmediate(send))
}

const errors = new WeakMap<Client, string>()

/** Why a connection is not there, in the words of its last failure. */
export const whyAway = (client: Client): string => errors.get(client) ?? 'not connected'

/** Resolves when commands can be sent. Rejects after `ms`, with why not. For those who can wait: commands, not hooks. */
export async function whenReady(client: Client, ms: number): Promise<void> {
  if (client.status === 'ready') return
  await new Promise<void>((resolve, reject) => {
    const onReady = () => {
      clearTimeout(timer)
      resolve()
    }
    const timer = setTimeout(() => {
      client.off('ready', onReady)
      reject(new Error(whyAway(client)))
    }, ms)
    client.once('ready', onReady)
  })
}

interface Shared {
  client: Client
  users: number
}

const shared = new Map<string, Shared>()

/** ioredis ends for good when sentinels tell of a failover while it connects to the master that they named before. */
function connectAgain({ client, users }: Shared): void {
  if (users > 0 && client.status === 'end') client.connect().catch(() => {})
}

/** Of a Cluster's seeds those whose names have no address, each in the words of the system. */
export const unknownSeeds = (client: Client): string[] => seedsOf.get(client)?.failures ?? []

/** What ioredis adds to errors: the command that failed, and for a Cluster what the last node said. */
interface RedisError extends Error {
  command?: { name: string; args: unknown[] }
  lastNodeError?: Error
}

const NO_REASON = 'Connection is closed.'
/** Connections that were given up for a reason that what comes after it must not hide. */
const givenUp = new WeakSet<Client>()

/** Keeps the reason of a failure. ioredis goes on in database 0 where SELECT fails: such a connection is given up. */
function onFailure(client: Client, error: RedisError): void {
  if (givenUp.has(client)) return
  const { command, lastNodeError } = error
  const isSelect = command?.name === 'select'
  const cause = lastNodeError && lastNodeError.message !== NO_REASON ? lastNodeError : error
  const why = [cause.message, ...unknownSeeds(client)].join('; ')
  errors.set(client, printError(isSelect ? `SELECT ${command?.args[0]}: ${why}` : why))
  if (!isSelect) return
  givenUp.add(client)
  client.disconnect(true)
}

/** The process' connection to this Redis. Each user calls `closeRedis` once. */
export function openRedis(settings: RedisSettings): Client {
  const { prefix: _, enabled: __, ...place } = settings
  const name = JSON.stringify(place)
  const open = shared.get(name) ?? { client: connect(settings), users: 0 }
  // Without a listener ioredis prints each failure. What to log is decided where a command fails.
  if (!open.users) {
    open.client.on('error', (error) => onFailure(open.client, error))
    open.client.on('connecting', () => givenUp.delete(open.client))
    open.client.on('ready', () => errors.delete(open.client))
    open.client.on('end', () => setTimeout(connectAgain, RETRY, open).unref())
  }
  open.users++
  shared.set(name, open)
  return open.client
}

/** Gives the connection back; the last user closes it, and waits half a second at most. */
export async function closeRedis(client: Client): Promise<void> {
  for (const [name, open] of shared) {
    if (open.client !== client || --open.users > 0) continue
    shared.delete(name)
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, 500)
    })
    await Promise.race([client.quit().catch(() => {}), late])
    clearTimeout(timer)
    client.disconnect()
  }
}
