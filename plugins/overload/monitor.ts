// What is measured, put together: the states in force now, one log line for each change, and the room for one message more.
import cluster from 'node:cluster'
import type { DiskPlaces } from '../../core/haraka/disk-writes'
import type { Plugin, Transaction } from '../../core/haraka/types'
import { hasWorkers } from '../../core/ini/host'
import type { Setting } from '../../core/ini/reload'
import { Claims, plus } from './claims'
import { KINDS, type Kind, type Mark, type OverloadConfig } from './config'
import { countQueue, LoopDelay, Volume } from './measure'
import {
  type Claim,
  fits,
  leastOf,
  type Measurements,
  nextStates,
  printSize,
  type Space,
  type States,
} from './policy'
import { changes } from './report'
import { OthersClaims, SharedClaims } from './share'

/** ms between two samples; less where the disk is so nearly full that it may fill between two. */
const EVERY = 1000
const EVERY_NEAR = 100
/** Bytes above the mark. */
const NEAR = 2 ** 30
/** ms for which what was written is claimed beyond the sample that has seen it: the other workers' samples are as old. */
const LAG = 2 * EVERY_NEAR
/** Counting may take this part of the time. */
const COUNTING = 1 / 20

/** One a process. The master of workers looks at disk and queue for the log, and counts the queue for all. */
export class Monitor {
  states: States = {}
  /** Connections that were let in and are open. */
  connections = 0
  readonly claims: Claims
  readonly #volumes: { queue: Volume; spool: Volume | undefined }
  readonly #delay = new LoopDelay()
  readonly #others: OthersClaims
  readonly #shared: SharedClaims | undefined
  readonly #isMaster: boolean
  readonly #isWorker = cluster.isWorker
  #queue: Measurements['queue']
  #delayNow = 0
  #memory = 0
  #countAt = 0
  #problem = ''
  #timer: NodeJS.Timeout | undefined

  constructor(
    private readonly plugin: Plugin,
    private readonly setting: Setting<OverloadConfig>,
    private readonly places: DiskPlaces,
    private readonly calls: {
      /** Ends a message that grows into what is to stay free. */
      breakOff(transaction: Transaction, figure: string): void
      /** A state has changed. */
      onChange(): void
    },
  ) {
    const { queue, spool, spoolAfter } = places
    this.#isMaster = cluster.isPrimary && hasWorkers(plugin)
    this.#volumes = { queue: new Volume(queue), spool: spool === undefined ? undefined : new Volume(spool) }
    this.claims = new Claims(spoolAfter)
    this.#others = new OthersClaims(() => this.claims.all)
    if (this.#isMaster) this.#shared = new SharedClaims()
  }

  start(): void {
    if (!this.#isMaster) this.#delay.start()
    if (this.#isWorker) this.#others.start()
    this.#shared?.start()
    void this.#loop()
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (!this.#isMaster) this.#delay.stop()
  }

  /** Sees the connections that are open now against their mark; called when one comes. */
  update(connections = this.connections): void {
    const before = this.states
    this.states = nextStates(this.setting.value, before, { ...this.#measured, connections })
    if (KINDS.some((kind) => before[kind]?.level !== this.states[kind]?.level)) this.calls.onChange()
    for (const line of changes(before, this.states, { isMaster: this.#isMaster, isWorker: this.#isWorker }))
      this.plugin.lognotice(line)
  }

  /** What is over its mark now, as in the node's key; '' where nothing is. */
  get overloads(): string {
    return Object.values(this.states)
      .filter(({ level }) => level > 0)
      .map(({ figure }) => figure)
      .join(', ')
  }

  /**
   * Undefined where a message has room: as much as the marks say stays free when it and all others that are coming in
   * are written. `bytes` and `files`: what it needs of the queue's file system.
   */
  noRoomFor(transaction: Transaction, bytes: number, files: number, spool = 0): Kind | undefined {
    const { disk, inodes } = this.setting.value
    const { queue } = this.#volumes
    const own = this.claims.of(transaction)
    const all = plus(this.claims.all, this.#others.others)
    const onQueue = { need: bytes, others: all.queue - own.queue }
    const onSpool = { need: spool, others: all.spool - own.spool }
    const isOne = this.#volumes.spool?.known?.device === queue.known?.device
    const both = isOne ? { need: bytes + spool, others: onQueue.others + onSpool.others } : onQueue
    if (lacks(disk, queue.known?.disk, both)) return 'disk'
    if (!isOne && spool > 0 && lacks(disk, this.#volumes.spool?.known?.disk, onSpool)) return 'disk'
    return lacks(inodes, queue.known?.inodes, { need: files, others: all.files - own.files })
      ? 'inodes'
      : undefined
  }

  /** A message is about to come, or has ended: the other workers hear of it, at once where room is scarce. */
  changed(): void {
    if (this.#isNear) this.#others.tell()
  }

  get #isNear(): boolean {
    const { disk } = this.setting.value
    return [this.#volumes.queue, this.#volumes.spool].some(
      (volume) => disk && volume?.known && volume.known.disk.free - leastOf(disk, volume.known.disk) < NEAR,
    )
  }

  get #measured(): Omit<Measurements, 'connections'> {
    const volumes = [this.#volumes.queue.known, this.#volumes.spool?.known]
    const { disk, inodes } = this.setting.value
    return {
      disk: tightest(
        disk,
        volumes.map((volume) => volume?.disk),
      ),
      inodes: tightest(
        inodes,
        volumes.map((volume) => volume?.inodes),
      ),
      queue: this.#queue,
      delay: this.#delayNow,
      memory: this.#memory,
    }
  }

  async #loop(): Promise<void> {
    let slow = 0
    for (;;) {
      const { queue, spool } = this.#volumes
      void Promise.all([spool?.sample(), queue.sample()]).then(() => this.#sampled())
      if (slow <= 0) {
        slow = EVERY
        this.#memory = process.memoryUsage.rss()
        this.#delayNow = this.#isMaster ? 0 : this.#delay.read()
        if (this.#isWorker) this.#queue = this.#others.queue
        else void this.#count()
        this.#others.tell()
        this.#tellProblem()
        this.update()
      }
      const pause = this.#isNear ? EVERY_NEAR : EVERY
      slow -= pause
      await new Promise<void>((resolve) => {
        this.#timer = setTimeout(resolve, pause).unref()
      })
      if (!this.#timer) return
    }
  }

  #sampled(): void {
    const at = this.#volumes.queue.known?.at
    if (at !== undefined) this.claims.settle(this.#isWorker ? at - LAG : at)
    this.update()
    this.#shedSpool()
  }

  /** A message without SIZE grows while it comes: it may use half of what is to stay free, and then its connection ends. */
  #shedSpool(): void {
    const { disk } = this.setting.value
    const spool = this.#volumes.spool?.known
    if (!disk || !spool || spool.disk.free >= leastOf(disk, spool.disk) / 2) return
    for (const transaction of this.claims.growing)
      this.calls.breakOff(
        transaction,
        `disk ${printSize(spool.disk.free)} free for spool files (min ${disk.text})`,
      )
  }

  async #count(): Promise<void> {
    const { queue } = this.setting.value
    if (!queue || performance.now() < this.#countAt) {
      if (!queue) this.#queue = undefined
      return
    }
    const began = performance.now()
    this.#countAt = Number.POSITIVE_INFINITY
    this.#queue = await countQueue(this.places.queue, queue.limit).catch(() => undefined)
    this.#countAt = performance.now() + (performance.now() - began) / COUNTING
    this.#shared?.tell(this.#queue)
  }

  /** Once: nobody is refused for what cannot be measured, and somebody should know. */
  #tellProblem(): void {
    const problems = [this.#volumes.queue, this.#volumes.spool].flatMap((volume) =>
      volume?.problem ? [`${volume.path} (${volume.problem})`] : [],
    )
    const problem = problems.join(', ')
    if (problem === this.#problem || this.#isWorker) return
    this.#problem = problem
    this.plugin.lognotice(
      problem
        ? `overload: free space cannot be measured, so nobody is refused for it: ${problem}`
        : 'overload: free space is measured again',
    )
  }
}

const lacks = (mark: Mark | undefined, space: Space | undefined, claim: Claim): boolean =>
  mark !== undefined && space !== undefined && !fits(mark, space, claim)

/** The one of these file systems that is nearest to its mark. */
function tightest(mark: Mark | undefined, spaces: (Space | undefined)[]): Space | undefined {
  const left = (space: Space) => space.free - (mark ? leastOf(mark, space) : 0)
  return spaces
    .filter((space) => space !== undefined)
    .reduce<Space | undefined>(
      (least, space) => (least && left(least) <= left(space) ? least : space),
      undefined,
    )
}
