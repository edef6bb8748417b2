import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { appendFileSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Reader, Reading } from '../core/ini/reading'
import { failStartOnErrors, Setting } from '../core/ini/reload'
import { pluginOf } from './support/connection'

const run = promisify(execFile)
const dir = mkdtempSync(join(tmpdir(), 'relay-guard-settings-'))
const config = join(dir, 'config', 'relay-guard')
mkdirSync(config, { recursive: true })
process.env['HARAKA'] = dir
after(() => rmSync(dir, { recursive: true, force: true }))

const pluginFor = () =>
  pluginOf('relay-guard/acl', { plugins: ['relay-guard/acl'], 'smtp.ini': { main: { nodes: 0 } } })

/** A configuration that is its keys, and the text of the files that `file[] =` names. */
function words({ sections, errors, open }: Reading): string {
  const entries = sections.flatMap((section) => section.entries)
  return entries
    .map(({ key, value = '' }) => {
      if (key === 'bad') errors.push({ file: 'x.ini', section: 'main', key, text: 'is bad' })
      if (key !== 'file') return key
      try {
        return open(value).toString().trim()
      } catch (error) {
        errors.push({ file: 'x.ini', section: 'main', key, text: (error as Error).message })
        return ''
      }
    })
    .join(' ')
}

let files = 0
function settingOf(text: string, reader: Reader<string> = { read: words }) {
  const name = `${++files}.ini`
  const path = join(config, name)
  writeFileSync(path, text)
  const { plugin, log } = pluginFor()
  return { name, path, log, setting: new Setting(plugin, name, reader) }
}

async function until(what: () => boolean, ms = 20_000): Promise<void> {
  const end = Date.now() + ms
  while (!what()) {
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}`)
    await sleep(50)
  }
}

const saysLastGood = (log: string[]) =>
  log.some((line) => /the last good configuration stays in force/.test(line))

// Side by side, as each waits for a file to be quiet.
describe('a configuration in a running server', { concurrency: true }, () => {
  it('is read at the start, and has a hash of its text', () => {
    const { setting } = settingOf('[main]\na = 1\n')
    assert.equal(setting.value, 'a')
    assert.match(setting.hash, /^[0-9a-f]{12}$/)
  })

  it('is read again when the file changes, in place or by another one put in its place', async () => {
    const { path, setting } = settingOf('[main]\na = 1\n')
    const { hash } = setting
    assert.equal(setting.generation, 1)
    writeFileSync(path, '[main]\nb = 1\n')
    await until(() => setting.value === 'b')
    assert.notEqual(setting.hash, hash)
    assert.equal(setting.generation, 2)
    writeFileSync(`${path}.new`, '[main]\na = 1\n')
    renameSync(`${path}.new`, path)
    await until(() => setting.value === 'a')
    assert.equal(setting.hash, hash)
  })

  it('waits while the file is still being written', async () => {
    const { path, setting, log } = settingOf('[main]\na = 1\n')
    writeFileSync(path, '[main]\n')
    for (const key of ['b', 'c', 'd', 'e', 'f', 'g']) {
      await sleep(1000)
      assert.equal(setting.value, 'a')
      appendFileSync(path, `${key} = 1\n`)
    }
    await until(() => setting.value === 'b c d e f g')
    assert.equal(log.length, 1)
  })

  const broken: [string, string, RegExp][] = [
    ['has an error', '[main]\nb = 1\nbad = 1\n', /x\.ini \[main\] bad: is bad/],
    ['is empty', '', /\.ini: is empty; remove the file to go back to the defaults/],
    [
      'ends in the middle of a line',
      '[main]\nb = 1\nc = 1',
      /has no line end; is the file still being written\?/,
    ],
    ['is not text', '[main]\nb = \0\n', /is not a text file in UTF-8/],
  ]
  for (const [how, text, said] of broken) {
    it(`stays the last good one, whole, when the file ${how}`, async () => {
      const { path, setting, log } = settingOf('[main]\na = 1\n')
      writeFileSync(path, text)
      await until(() => saysLastGood(log))
      assert.equal(setting.value, 'a')
      assert.match(log[0] ?? '', said)
      await sleep(1500)
      assert.equal(log.length, 2, 'an error is told once')
    })
  }

  it('stays the last good one when the file is taken away, and takes it when it is back', async () => {
    const { path, setting, log } = settingOf('[main]\na = 1\n')
    rmSync(path)
    await until(() => saysLastGood(log))
    assert.equal(setting.value, 'a')
    writeFileSync(path, '[main]\nb = 1\n')
    await until(() => setting.value === 'b')
  })

  it('is the default of the package where there is no file, and the file once there is one', async () => {
    const { plugin } = pluginFor()
    const setting = new Setting(plugin, 'auth.ini', { read: words })
    assert.equal(setting.value, 'require_tls sender realm')
    writeFileSync(join(config, 'auth.ini'), '[main]\na = 1\n')
    await until(() => setting.value === 'a')
  })

  it('changes with a file that it names', async () => {
    const list = join(dir, 'list.txt')
    writeFileSync(list, 'one')
    const { setting } = settingOf(`[main]\nfile = ${list}\n`)
    assert.equal(setting.value, 'one')
    writeFileSync(list, 'two')
    await until(() => setting.value === 'two')
  })

  it('takes a file that it names before it is there, when it comes', async () => {
    const { path, setting, log } = settingOf('[main]\na = 1\n')
    const late = join(dir, 'late.txt')
    writeFileSync(path, `[main]\nfile = ${late}\n`)
    await until(() => saysLastGood(log))
    assert.equal(setting.value, 'a')
    writeFileSync(late, 'three')
    await until(() => setting.value === 'three')
  })

  it('does not lose a change that comes while it is being read', async () => {
    let reading = 0
    let goOn: () => void = () => undefined
    const held = new Promise<void>((resolve) => {
      goOn = resolve
    })
    const { path, setting } = settingOf('[main]\na = 1\n', {
      read: words,
      sliced: async (what) => {
        const value = words(what)
        if (++reading === 1) await held
        return value
      },
    })
    writeFileSync(path, '[main]\nb = 1\n')
    await until(() => reading === 1)
    writeFileSync(path, '[main]\nc = 1\n')
    goOn()
    await until(() => setting.value === 'c')
  })

  it('that a reader throws at is told once and stays', async () => {
    const { path, setting, log } = settingOf('[main]\na = 1\n', {
      read: (reading) => {
        const value = words(reading)
        if (value === 'throw') throw new Error('oops')
        return value
      },
    })
    writeFileSync(path, '[main]\nthrow = 1\n')
    await until(() => log.length > 0)
    await sleep(1500)
    assert.equal(setting.value, 'a')
    assert.equal(log.length, 1)
    assert.match(log[0] ?? '', /could not be read again: oops/)
    writeFileSync(path, '[main]\nb = 1\n')
    await until(() => setting.value === 'b')
  })
})

describe('at the start', () => {
  const script = join(__dirname, 'support', 'settings-start.js')
  const start = (how: string) => run(process.execPath, [script, how], { timeout: 30_000 })

  it('Haraka does not start with an error, and the errors of all files are printed, one a line', async () => {
    const { stdout } = await start('two broken files')
    assert.deepEqual(stdout.trim().split('\n'), [
      'crit: acl.ini [realy]: is not a section of this file; did you mean [relay]?',
      'acl registered',
      'crit: auth.ini [main] sender: "all" is not one of any, domain, address',
      'refused: config/relay-guard has errors (2), listed above; Haraka does not start',
    ])
  })

  it('a worker forked while a file is broken goes on with what the master found good, list files too', async () => {
    const { stdout } = await start('worker')
    assert.deepEqual(stdout.trim().split('\n'), [
      'worker: 192.0.2.1 may relay, 198.51.100.1 may relay, same hash: true',
    ])
  })

  it('says nothing where nothing is wrong', () =>
    assert.doesNotThrow(() => failStartOnErrors(pluginFor().plugin)))
})
