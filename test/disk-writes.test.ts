// Haraka's own outbound queue, with writes that fail: no half of a message is in the queue, whatever is faster.
import assert from 'node:assert/strict'
import fs, { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Writable } from 'node:stream'
import { after, before, beforeEach, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type DiskPlaces, diskPlaces, takeOverDiskWrites } from '../core/haraka/disk-writes'
import type { Plugin } from '../core/haraka/types'
import { harakaHome } from './support/install'

const home = mkdtempSync(join(tmpdir(), 'relay-guard-writes-'))
const queue = join(home, 'queue')
mkdirSync(queue)
// Before Haraka's files are loaded, which read it.
process.env['HARAKA'] = home
after(() => rmSync(home, { recursive: true }))

const haraka = (file: string): unknown => require(join(harakaHome, file))

interface Outbound {
  build_todo(todo: object, file: Writable, more: () => void): void
  send_email(from: string, to: string, text: string, done: (code: number, message: unknown) => void): void
  delivery_queue: { push(mail: object): void }
}

const settings = (connection: object = {}): Plugin =>
  ({
    name: 'relay-guard/test',
    haraka_require: haraka,
    config: { get: () => connection },
  }) as unknown as Plugin

describe('a queue file that cannot be written', () => {
  const outbound = haraka('outbound') as Outbound
  const queued: object[] = []
  let code = 'ENOSPC'
  const promises = fs.promises as { unlink(path: string): Promise<void> }
  const { unlink } = promises

  before(() => {
    const constants = createRequire(join(harakaHome, 'haraka.js'))('haraka-constants') as {
      import(to: object): void
    }
    constants.import(globalThis)
    outbound.delivery_queue.push = (mail) => void queued.push(mail)
    const { build_todo } = outbound
    outbound.build_todo = function (todo, file, more) {
      build_todo.call(this, todo, file, more)
      if (code) file.destroy(Object.assign(new Error(`${code}: write`), { code }))
    }
    // The file is away only after it could have been renamed: left to itself, Haraka is done with it first.
    promises.unlink = async (path) => {
      await sleep(30)
      await unlink(path)
    }
    takeOverDiskWrites(settings())
    takeOverDiskWrites(settings())
  })
  after(() => {
    promises.unlink = unlink
  })
  beforeEach(() => {
    queued.length = 0
  })

  const send = () =>
    new Promise<number>((resolve) =>
      outbound.send_email('<a@b.test>', '<c@d.test>', 'Subject: x\r\n\r\nhello\r\n', resolve),
    )

  for (const failing of ['ENOSPC', 'EDQUOT', 'EIO'])
    it(`with ${failing} is not in the queue, also where unlinking it takes longer than renaming`, async () => {
      code = failing
      assert.equal(await send(), DENYSOFT)
      await sleep(60)
      assert.deepEqual([readdirSync(queue), queued], [[], []])
    })

  it('is no reason against the next one', async () => {
    code = ''
    assert.equal(await send(), OK)
    assert.deepEqual([readdirSync(queue).length, queued.length], [1, 1])
  })
})

describe('where Haraka writes', () => {
  const places = (main: object, max: object = {}): DiskPlaces => diskPlaces(settings({ main, max }))
  const none = { queue, spool: undefined }
  for (const [what, found, expected] of [
    ['nothing is said', places({}), { ...none, spoolAfter: 25 * 2 ** 20 }],
    ['nothing is spooled', places({ spool_after: -1 }), { ...none, spoolAfter: Number.POSITIVE_INFINITY }],
    ['all is spooled', places({ spool_after: 0 }), { queue, spool: '/tmp', spoolAfter: 0 }],
    [
      'a folder is named',
      places({ spool_after: '100', spool_dir: '/s' }),
      { queue, spool: '/s', spoolAfter: 100 },
    ],
    [
      'messages may be larger',
      places({}, { bytes: 5e7 }),
      { queue, spool: '/tmp', spoolAfter: 25 * 2 ** 20 },
    ],
    [
      'messages may be of any size',
      places({ spool_after: 5e9 }, { bytes: 0 }),
      { queue, spool: '/tmp', spoolAfter: 5e9 },
    ],
    [
      'no message is that large',
      places({ spool_after: 5000 }, { bytes: 4000 }),
      { ...none, spoolAfter: 5000 },
    ],
    ['spool_after is no number', places({ spool_after: 'x' }), { ...none, spoolAfter: 25 * 2 ** 20 }],
  ] as const)
    it(`where ${what}`, () => assert.deepEqual(found, expected))
})
