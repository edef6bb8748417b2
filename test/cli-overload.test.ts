// relay-guard check on overload.ini: marks that this machine does not keep, now or ever.
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { overloadWarnings } from '../cli/check/overload'
import { readOverload } from '../plugins/overload/config'
import { type FileSystem, readFileSystem } from '../plugins/overload/measure'
import { HarakaDir, relayGuard } from './support/command'
import { readText } from './support/reading'

let haraka: HarakaDir
let found: FileSystem
before(async () => {
  haraka = await HarakaDir.make()
  found = await readFileSystem(haraka.dir)
})
after(() => haraka.remove())

const warnings = (disk: string) =>
  overloadWarnings(readText('overload.ini', `[disk]\n${disk}\n`, readOverload).value, haraka.dir)

describe('relay-guard check', () => {
  it('says nothing of marks that are kept, or off', async () => {
    assert.deepEqual(await warnings('min_free = 1K\nmin_free_inodes = 1'), [])
    assert.deepEqual(await warnings('min_free = off\nmin_free_inodes = off'), [])
  })

  it('warns of a disk that is smaller than its mark', async () => {
    const [warning = '', ...more] = await warnings('min_free = 8000000G\nmin_free_inodes = off')
    assert.match(
      warning,
      /^overload\.ini \[disk\] min_free = 8000000G: the file system of \S+\/queue has [\d.]+[GM] in all, so no mail is ever taken$/,
    )
    assert.deepEqual(more, [])
  })

  it('warns of a disk that has less free now', async () => {
    const between = Math.round((found.disk.free + found.disk.total) / 2)
    const [warning = ''] = await warnings(`min_free = ${between}\nmin_free_inodes = off`)
    assert.match(warning, /queue has [\d.]+[GM] free, so no mail is taken now$/)
  })

  it('warns of files that are short', async (t) => {
    if (!found.inodes) return t.skip('this file system reports no inodes')
    const [warning = ''] = await warnings('min_free = off\nmin_free_inodes = 99999999999')
    assert.match(
      warning,
      /min_free_inodes = 99999999999: .* has room for \d+ files, so no mail is taken now$/,
    )
  })

  it('looks where queue_dir says, and warns where that cannot be read', async () => {
    haraka.put('queue_dir', '/proc/version/queue\n')
    const [warning = ''] = await warnings('min_free = 1K')
    assert.match(warning, /^overload\.ini \[disk\]: free space of \/proc\/version\/queue cannot be read/)
  })

  it('shows them beside its other warnings, with the line of the plugin only', async () => {
    haraka.put('queue_dir', `${haraka.dir}/queue\n`)
    haraka.ini('overload.ini', '[disk]\nmin_free = 8000000G\n')
    const said = async (...lines: string[]) => {
      haraka.plugins(...lines)
      return (await relayGuard(['-c', haraka.dir, 'check'])).out
    }
    assert.match(await said('relay-guard/overload'), /^warning: overload\.ini \[disk\] min_free = 8000000G/m)
    assert.match(
      await said('relay-guard/acl'),
      /the line relay-guard\/overload is not there, so nothing of overload\.ini/,
    )
  })
})
