// What a process hears of Redis without asking: that keys of blocks change, whoever changes them, and what the channels
// `recall` and `blocks` say. One more connection, on a Cluster one to each master: the invalidations of client-side
// caching come to the connection that asked for them, and ioredis passes them on only in RESP2.
import { Cluster, type Redis } from 'ioredis'
import type { Client } from './connection'
import { printError } from './errors'
import { makeKeys } from './keys'
import { globOf, mastersOf, scanKeys } from './scan'

const INVALIDATE = '__redis__:invalidate'
/** Between two signs of life, in ms: a connection that is dead in silence is found within twice as much. */
const PING = 2000
/** Before another try to connect, in ms. */
const RECONNECT = 500
/** Before another try where Redis does not let us listen, in ms. */
const RETRY = 10_000
/** With more keys in the database, those of blocks are not looked for: each name is asked for instead. */
const MOST_KEYS = 1_000_000

/** Who is told what was heard. A tag is what stands in the braces of a key, with them: `{ip:203.0.113.9}`. */
export interface Hearer {
  /** From now on everything is heard, or nothing. */
  listen(isListening: boolean): void
  /** A block of this subject came or went. */
  changed(tag: string): void
  /** All that was counted for this subject is gone; undefined: for all, blocks too. */
  reset(tag?: string): void
  /** Somebody is refused only because others hold something of this subject in advance. */
  recalled(tag: string): void
  /** All subjects but addresses that are blocked; `changed` tells of those that come later. */
  knowBlocks(tags: string[]): void
  /** Redis does not let us listen. */
  failed(reason: string): void
}

const tagIn = (key: string): string | undefined => /\{[^}]*\}/.exec(key)?.[0]

interface Ear {
  redis: Redis
  isReady: boolean
}

/** Listens beside a connection, for as long as that is used. */
export class Listener {
  #names
  #ears = new Map<string, Ear>()
  #isListening = false
  #isClosed = false
  /** Changes with each beginning and end. */
  #turn = 0
  #hasFailed = false
  #timer: NodeJS.Timeout

  constructor(
    private readonly client: Client,
    prefix: string,
    private readonly hearer: Hearer,
  ) {
    this.#names = makeKeys(prefix)
    this.#timer = setInterval(() => this.#ping(), PING).unref()
    if (client instanceof Cluster) {
      client.on('ready', this.#meet).on('+node', this.#meet).on('-node', this.#meet)
      if (client.status === 'ready') this.#meet()
    } else this.#listenTo('', client)
  }

  close(): void {
    this.#isClosed = true
    clearInterval(this.#timer)
    this.client.off('ready', this.#meet).off('+node', this.#meet).off('-node', this.#meet)
    for (const { redis } of this.#ears.values()) redis.disconnect()
    this.#ears.clear()
    this.#tell()
  }

  /** The masters of a Cluster come and go. */
  #meet = (): void => {
    if (!(this.client instanceof Cluster) || this.#isClosed) return
    const masters = new Map(
      this.client.nodes('master').map((node) => [`${node.options.host}:${node.options.port}`, node]),
    )
    for (const [name, { redis }] of this.#ears) {
      if (masters.has(name)) continue
      redis.disconnect()
      this.#ears.delete(name)
    }
    for (const [name, node] of masters) if (!this.#ears.has(name)) this.#listenTo(name, node)
    this.#tell()
  }

  #listenTo(name: string, node: Redis): void {
    const redis = node.duplicate({
      protocol: 2,
      // Channels and invalidations know no databases, and a right to SELECT may be missing.
      db: 0,
      connectionName: `relay-guard-listener-${process.pid}`,
      autoResubscribe: false,
      lazyConnect: false,
      retryStrategy: () => RECONNECT,
    })
    const ear: Ear = { redis, isReady: false }
    this.#ears.set(name, ear)
    // Why it is away is told where it is asked.
    redis.on('error', () => {})
    redis.on('ready', () => void this.#begin(ear))
    redis.on('close', () => {
      ear.isReady = false
      this.#tell()
    })
    // ioredis ends for good when sentinels tell of a failover while it connects to the master that they named before.
    const connectAgain = () => {
      if (this.#ears.get(name) === ear && redis.status === 'end') redis.connect().catch(() => {})
    }
    redis.on('end', () => setTimeout(connectAgain, RECONNECT).unref())
    redis.on('messageBuffer', (channel: Buffer, message: unknown) => this.#hear(channel.toString(), message))
  }

  async #begin(ear: Ear): Promise<void> {
    const { redis } = ear
    const { blockPrefix, recall, blocks } = this.#names
    try {
      const id = await redis.client('ID')
      await redis.call('CLIENT', 'TRACKING', 'ON', 'REDIRECT', id, 'BCAST', 'PREFIX', blockPrefix)
      await redis.subscribe(INVALIDATE, recall, blocks)
      ear.isReady = true
      this.#tell()
    } catch (error) {
      if (redis.status !== 'ready' || this.#isClosed) return
      const isWorthALine = !this.#hasFailed && this.client.status === 'ready'
      if (isWorthALine) this.hearer.failed(printError(error))
      this.#hasFailed ||= isWorthALine
      setTimeout(() => redis.status === 'ready' && void this.#begin(ear), RETRY).unref()
    }
  }

  /** All masters are heard, or it counts for nothing. */
  #tell(): void {
    const ears = [...this.#ears.values()]
    const isListening = ears.length > 0 && ears.every(({ isReady }) => isReady)
    if (isListening === this.#isListening) return
    this.#isListening = isListening
    const turn = ++this.#turn
    this.hearer.listen(isListening)
    if (!isListening) return
    this.#hasFailed = false
    this.#findBlocks(turn).catch(() => {})
  }

  #hear(channel: string, message: unknown): void {
    if (!this.#isListening) return
    if (channel !== INVALIDATE) {
      const tag = tagIn(String(message))
      if (tag === undefined) return
      if (channel === this.#names.recall) this.hearer.recalled(tag)
      else if (String(message).startsWith(this.#names.blockPrefix)) this.hearer.changed(tag)
      else this.hearer.reset(tag)
      return
    }
    if (Array.isArray(message)) {
      for (const key of message) {
        const tag = tagIn(String(key))
        if (tag !== undefined) this.hearer.changed(tag)
      }
      return
    }
    // FLUSHALL, FLUSHDB
    this.hearer.reset()
    this.#findBlocks(++this.#turn).catch(() => {})
  }

  /** Looks through all keys once, in small pieces, for blocks of others than addresses. */
  async #findBlocks(turn: number): Promise<void> {
    const { client } = this
    const nodes = mastersOf(client)
    const sizes = await Promise.all(nodes.map((node) => node.dbsize()))
    if (sizes.some((size) => size > MOST_KEYS)) return
    const pattern = `${globOf(this.#names.blockPrefix)}{[^in]*`
    const tags: string[] = []
    for (const node of nodes) {
      for await (const keys of scanKeys(node, pattern)) {
        if (turn !== this.#turn) return
        tags.push(...keys.flatMap((key) => tagIn(key) ?? []))
      }
    }
    if (turn === this.#turn) this.hearer.knowBlocks(tags)
  }

  #ping(): void {
    // What does not answer is disconnected by its socketTimeout.
    for (const { redis, isReady } of this.#ears.values()) if (isReady) redis.ping().catch(() => {})
  }
}
