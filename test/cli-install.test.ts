import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { HarakaDir, relayGuard } from './support/command'
import { harakaScript } from './support/install'

let haraka: HarakaDir
let dir: string
before(async () => {
  haraka = await HarakaDir.make()
  dir = haraka.dir
})
after(() => haraka.remove())

describe('relay-guard install', () => {
  it('puts the ini files in place, shows the lines that are missing, and never overwrites', async () => {
    const first = await relayGuard(['install'], '', dir)
    assert.equal(first.status, 0, first.err)
    assert.match(first.out, /^config\/relay-guard\/acl\.ini: put in place$/m)
    for (const line of ['acl', 'auth', 'domains'])
      assert.match(first.out, new RegExp(`^ {2}relay-guard/${line}$`, 'm'))
    const file = join(dir, 'config', 'relay-guard', 'acl.ini')
    const shipped = readFileSync(file, 'utf8')
    assert.equal(shipped, readFileSync(join(__dirname, '..', 'config', 'relay-guard', 'acl.ini'), 'utf8'))
    haraka.ini('acl.ini', '[never]\n192.0.2.1\n')
    rmSync(join(dir, 'config', 'relay-guard', 'auth.ini'))
    const { status, out } = await relayGuard(['-c', dir, '--json', 'install'])
    const report = JSON.parse(out) as { copied: string[]; kept: string[]; missing: string[] }
    assert.equal(status, 0)
    assert.deepEqual(report.copied, ['auth.ini'])
    assert.ok(report.kept.includes('acl.ini'))
    assert.equal(readFileSync(file, 'utf8'), '[never]\n192.0.2.1\n')
    assert.ok(existsSync(join(dir, 'config', 'relay-guard', 'auth.ini')))
    haraka.ini('acl.ini', shipped)
  })

  it('says of the lines that are there that they are there, and warns of other plugins', async () => {
    haraka.plugins('relay', 'haraka-plugin-relay-guard/acl', 'relay-guard/auth', 'relay-guard/domains')
    const { out } = await relayGuard(['-c', dir, '--json', 'install'])
    const report = JSON.parse(out) as { missing: string[]; warnings: string[] }
    for (const line of ['acl', 'auth', 'domains']) assert.ok(!report.missing.includes(`relay-guard/${line}`))
    assert.ok(
      report.warnings.some((warning) =>
        /^config\/plugins: relay decides the same as relay-guard\/acl/.test(warning),
      ),
    )
  })

  it('links the documentation to where Haraka’s own help looks for it', async () => {
    await relayGuard(['install'], '', dir)
    const plugins = readdirSync(join(__dirname, '..', 'plugins'))
    for (const plugin of plugins) {
      const { stdout } = await promisify(execFile)(
        process.execPath,
        [harakaScript, '-c', dir, '-h', `relay-guard/${plugin}`],
        { env: { ...process.env, PAGER: 'cat' } },
      )
      assert.match(stdout, new RegExp(`^# relay-guard/${plugin}$`, 'm'))
    }
    const { out } = await relayGuard(['-c', dir, '--json', 'install'])
    assert.equal((JSON.parse(out) as { linked: boolean }).linked, false)
  })

  it('ships a README in the folder of each plugin, whose links lead somewhere', () => {
    const built = join(__dirname, '..')
    for (const plugin of readdirSync(join(built, 'plugins'))) {
      const text = readFileSync(join(built, plugin, 'README.md'), 'utf8')
      assert.match(text, new RegExp(`^# relay-guard/${plugin}$`, 'm'))
      for (const [, link = ''] of text.matchAll(/\]\(([^)#]+\.md)/g))
        assert.ok(existsSync(join(built, plugin, link)), link)
    }
  })
})
