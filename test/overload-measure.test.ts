// Measuring: a file system that hangs or is gone, a queue with many files, and what is being written at the moment.
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { Transaction } from '../core/haraka/types'
import { Claims, NOTHING } from '../plugins/overload/claims'
import { countQueue, type FileSystem, LoopDelay, readFileSystem, Volume } from '../plugins/overload/measure'

const some: FileSystem = { device: 1, disk: { free: 5, total: 9 }, inodes: undefined }

describe('a file system', () => {
  it('that answers is known, with when it was asked', async () => {
    let now = 100
    const volume = new Volume(
      '/q',
      () => Promise.resolve(some),
      () => now,
    )
    assert.equal(volume.known, undefined)
    await volume.sample()
    now += 1000
    assert.deepEqual(volume.known, { ...some, at: 100 })
    assert.equal(volume.problem, '')
  })

  it('that hangs is asked once, counts for 30 s by its last answer, and then cannot be told', async () => {
    let now = 0
    let asked = 0
    let wake = () => {}
    const answers = [
      Promise.resolve(some),
      new Promise<FileSystem>((resolve) => (wake = () => resolve(some))),
    ]
    const volume = new Volume(
      '/q',
      () => answers[asked++] ?? Promise.resolve(some),
      () => now,
    )
    await volume.sample()
    now = 1000
    const hanging = volume.sample()
    for (now = 2000; now < 30_000; now += 1000) {
      await volume.sample()
      assert.equal(volume.known?.disk.free, 5)
    }
    now = 30_000
    assert.equal(volume.known, undefined)
    assert.equal(volume.problem, 'it does not answer')
    assert.equal(asked, 2)
    wake()
    await hanging
    const at = () => volume.known?.at
    now = 30_500
    assert.equal(at(), 1000)
    await volume.sample()
    assert.equal(volume.problem, '')
    assert.equal(at(), 30_500)
  })

  it('that gives an error cannot be told, and says why', async () => {
    const now = 0
    const volume = new Volume(
      '/q',
      () => Promise.reject(new Error('EIO: i/o error')),
      () => now,
    )
    await volume.sample()
    assert.equal(volume.known, undefined)
    assert.equal(volume.problem, 'EIO: i/o error')
  })

  it('is found by a folder that is not there yet, and none where something else is wrong', async () => {
    const [there, later] = await Promise.all([
      readFileSystem(tmpdir()),
      readFileSystem(join(tmpdir(), 'not-there', 'nor-there')),
    ])
    assert.equal(later.device, there.device)
    assert.ok(there.disk.free > 0 && there.disk.free <= there.disk.total)
    await assert.rejects(readFileSystem('/etc/hostname/x'), /ENOTDIR/)
  })
})

describe('the queue', () => {
  const queue = mkdtempSync(join(tmpdir(), 'relay-guard-queue-'))
  it('is counted without unfinished files and folders, and no further than is asked for', async (t) => {
    t.after(() => rmSync(queue, { recursive: true }))
    for (let n = 0; n < 1500; n++) writeFileSync(join(queue, `1_1_0_1_${n}_1_mx`), '')
    writeFileSync(join(queue, '__tmp__.1_1_0_1_x_1_mx'), '')
    writeFileSync(join(queue, '.keep'), '')
    mkdirSync(join(queue, 'quarantine'))
    assert.deepEqual(await countQueue(queue, 1501), { count: 1500, atLeast: false })
    assert.deepEqual(await countQueue(queue, 1500), { count: 1500, atLeast: false })
    assert.deepEqual(await countQueue(queue, 1499), { count: 1500, atLeast: true })
    assert.deepEqual(await countQueue(queue, 5), { count: 6, atLeast: true })
  })
  it('that is not there yet is empty, and one that cannot be read cannot be told', async () => {
    assert.deepEqual(await countQueue(join(queue, 'none'), 5), { count: 0, atLeast: false })
    await assert.rejects(countQueue('/etc/hostname', 5), /ENOTDIR/)
  })
})

/** What Claims reads of a transaction. */
const transactionOf = (data_bytes = 0, spooling = false) =>
  ({ data_bytes, message_stream: { spooling } }) as unknown as Transaction & { data_bytes: number }

describe('what messages are about to write', () => {
  const FILE = 8192
  it('is what was announced, or more where more has come, until it ends', () => {
    const claims = new Claims(Number.POSITIVE_INFINITY)
    const [one, two] = [transactionOf(), transactionOf()]
    claims.announce(one, 10_000)
    claims.announce(two, 0)
    assert.deepEqual(claims.all, { queue: 10_000 + 2 * FILE, spool: 0, files: 2 })
    two.data_bytes = 5000
    one.data_bytes = 12_000
    assert.deepEqual(claims.all, { queue: 17_000 + 2 * FILE, spool: 0, files: 2 })
    assert.deepEqual(claims.of(two), { queue: 5000 + FILE, spool: 0, files: 1 })
    claims.end(one, 5)
    claims.end(two, 5)
    assert.deepEqual(claims.all, NOTHING)
  })

  it('is so much for each file that is written, until a sample has seen it', () => {
    const claims = new Claims(Number.POSITIVE_INFINITY)
    const one = transactionOf(1000)
    claims.announce(one, 90_000)
    assert.equal(claims.filesOf(one), 0)
    assert.deepEqual(claims.queue(one, 3), { queue: 3 * (1000 + FILE), spool: 0, files: 3 })
    assert.equal(claims.filesOf(one), 3)
    claims.end(one, 100)
    // Asked for before it was written: free in it is not free.
    claims.settle(100)
    assert.equal(claims.all.files, 3)
    claims.settle(101)
    assert.deepEqual(claims.all, NOTHING)
  })

  it('is in the spool what is still to come, where the message is large enough', () => {
    const claims = new Claims(5000)
    const [small, large] = [transactionOf(), transactionOf(2000)]
    claims.announce(small, 5000)
    claims.announce(large, 5001)
    assert.equal(claims.all.spool, 3001)
  })

  it('grows where a message that is spooled has become larger than it was announced', () => {
    const claims = new Claims(0)
    const [honest, silent, liar, whole, kept] = [
      transactionOf(500, true),
      transactionOf(1, true),
      transactionOf(501, true),
      transactionOf(900, true),
      transactionOf(900),
    ]
    claims.announce(honest, 500)
    claims.announce(silent, 0)
    claims.announce(liar, 500)
    claims.queue(whole, 1)
    claims.announce(kept, 0)
    assert.deepEqual(claims.growing, [silent, liar])
  })

  it('of a transaction that nobody announced is nothing', () => {
    const claims = new Claims(0)
    claims.end(transactionOf(), 1)
    assert.deepEqual([claims.of(transactionOf()), claims.all], [NOTHING, NOTHING])
  })
})

it('the event loop is not late before it has been looked at, whatever the start took', () => {
  const delay = new LoopDelay()
  assert.equal(delay.read(), 0)
  delay.start()
  assert.deepEqual(
    [1, 2, 3].map(() => delay.read()),
    [0, 0, 0],
  )
  delay.stop()
})
