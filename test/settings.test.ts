import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { isEmpty } from '../core/ini/files'
import { printConfigError } from '../core/ini/parse'
import { iniPath, type Reader, type Reading, readingOf } from '../core/ini/reading'
import { Setting } from '../core/ini/reload'
import { failStartOnErrors } from '../core/ini/start-errors'
import { readRedis } from '../core/redis/config'
import { runAtOnce } from '../core/time-slices'
import { readAcl } from '../plugins/acl/config'
import { readDomains } from '../plugins/domains/config'
import { relayGuard } from './support/command'
import { pluginOf } from './support/connection'
import { fc } from './support/random'

const run = promisify(execFile)
const dir = mkdtempSync(join(tmpdir(), 'relay-guard-settings-'))
const config = join(dir, 'config', 'relay-guard')
mkdirSync(config, { recursive: true })
process.env['HARAKA'] = dir
after(() => rmSync(dir, { recursive: true, force: true }))

const pluginFor = (smtp: Record<string, unknown> = {}) =>
  pluginOf('relay-guard/acl', { plugins: ['relay-guard/acl'], 'smtp.ini': { main: { nodes: 0, ...smtp } } })

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
        errors.push({ file: 'x.ini', section: 'main', key: value, text: (error as Error).message })
        return ''
      }
    })
    .join(' ')
}

let files = 0

/** A Setting over real files, with a clock that only the test moves. */
function settingOf<T>(text: string, reader: Reader<T>, name = `${++files}.ini`, smtp = {}) {
  const path = join(config, name)
  if (text) writeFileSync(path, text)
  const { plugin, log } = pluginFor(smtp)
  let now = 0
  let changes = 0
  const watch = { now: () => now, start: () => undefined }
  const setting = new Setting(plugin, name, reader, () => changes++, watch)
  /** Time goes by, and each second is looked at the files; `each` does something to them just before. */
  const pass = async (seconds: number, each: (second: number) => void = () => undefined) => {
    for (let second = 1; second <= seconds; second++) {
      each(second)
      now += 1000
      await setting.poll().catch((error) => setting.fail(error))
    }
  }
  return { path, log, setting, pass, changes: () => changes }
}

const wordsOf = (text: string, reader: Reader<string> = { read: words }) => settingOf(text, reader)

/** Long enough for a file that has changed once to be in force, or to be complained of. */
const SETTLED = 6

describe('a configuration in a running server', () => {
  it('is read at the start, and has a hash of its text', () => {
    const { setting } = wordsOf('[main]\na = 1\n')
    assert.equal(setting.value, 'a')
    assert.match(setting.hash, /^[0-9a-f]{12}$/)
    assert.equal(setting.generation, 1)
  })

  it('is read again when the file changes, in place or by another one put in its place', async () => {
    const { path, setting, pass, changes } = wordsOf('[main]\na = 1\n')
    const { hash } = setting
    writeFileSync(path, '[main]\nb = 1\n')
    await pass(SETTLED)
    assert.deepEqual([setting.value, setting.generation, changes()], ['b', 2, 1])
    assert.notEqual(setting.hash, hash)
    writeFileSync(`${path}.new`, '[main]\na = 1\n')
    renameSync(`${path}.new`, path)
    await pass(SETTLED)
    assert.deepEqual([setting.value, setting.generation, changes()], ['a', 3, 2])
    assert.equal(setting.hash, hash)
  })

  it('has another generation only when it says something else', async () => {
    const { path, setting, log, pass, changes } = wordsOf('[main]\na = 1\n')
    writeFileSync(path, '[main]\nbad = 1\n')
    await pass(SETTLED)
    writeFileSync(path, '[main]\na = 1\n')
    await pass(SETTLED)
    assert.deepEqual([setting.value, setting.generation, changes()], ['a', 1, 0])
    assert.match(log.at(-1) ?? '', /was read again and is in force/)
  })

  it('waits while the file is still being written', async () => {
    const { path, setting, log, pass } = wordsOf('[main]\na = 1\n')
    writeFileSync(path, '[main]\n')
    for (const key of ['b', 'c', 'd']) {
      await pass(3)
      assert.equal(setting.value, 'a')
      appendFileSync(path, `${key} = 1\n`)
    }
    await pass(5)
    assert.equal(setting.value, 'b c d')
    assert.equal(log.length, 1)
  })

  it('is in force within 15 s although the file keeps changing: the wait for quiet had no end', async () => {
    const list = join(dir, 'growing.txt')
    writeFileSync(list, 'a\n')
    const { setting, pass } = wordsOf(`[main]\nfile = ${list}\n`)
    const lines = ['a']
    await pass(40, (second) => {
      if (second % 2) appendFileSync(list, `${lines[lines.push(`l${second}`) - 1]}\n`)
      const late = setting.value.split('\n').length
      const wasThere = lines.slice(0, Math.max(1, Math.ceil((second - 14) / 2)))
      assert.ok(late >= wasThere.length, `in second ${second}: ${late} of ${lines.length} lines`)
    })
    assert.ok(setting.generation > 2)
  })

  it('takes no half of a file that keeps changing and is cut each time that it is looked at', async () => {
    const { path, setting, log, pass } = wordsOf('[main]\na = 1\n')
    await pass(13, (second) => writeFileSync(path, `[main]\nb = ${second}\nc = 1`))
    assert.deepEqual([setting.value, log], ['a', []], 'tried again without a word')
    writeFileSync(path, '[main]\nb = 1\nc = 1\n')
    await pass(1)
    assert.equal(setting.value, 'b c')
  })

  const broken: [string, string, RegExp][] = [
    ['has an error', '[main]\nb = 1\nbad = 1\n', /x\.ini \[main\] bad: is bad/],
    ['is empty', '', /\.ini: is empty; to go back to the defaults, remove the file and restart Haraka/],
    ['holds only white space', ' \n\t\r\n', /\.ini: is empty; to go back to the defaults/],
    [
      'ends in the middle of a line',
      '[main]\nb = 1\nc = 1',
      /has no line end; is the file still being written\?/,
    ],
    ['is not text', '[main]\nb = \0\n', /is not a text file in UTF-8/],
  ]
  for (const [how, text, said] of broken) {
    it(`stays the last good one, whole, when the file ${how}`, async () => {
      const { path, setting, log, pass } = wordsOf('[main]\na = 1\n')
      writeFileSync(path, text)
      await pass(30)
      assert.deepEqual([setting.value, setting.generation], ['a', 1])
      assert.match(log[0] ?? '', said)
      assert.match(log[1] ?? '', /has errors \(1\); the last good configuration stays in force/)
      assert.equal(log.length, 2, 'an error is told once')
    })
  }

  it('stays until a restart when the file is removed, says so once, and takes it when it is back', async () => {
    const { path, setting, log, pass } = wordsOf('[main]\na = 1\n')
    rmSync(path)
    await pass(60)
    assert.equal(setting.value, 'a')
    assert.equal(log.length, 1)
    assert.match(
      log[0] ?? '',
      /config\/relay-guard\/\d+\.ini was removed; what it said stays in force until Haraka is restarted$/,
    )
    writeFileSync(path, '[main]\nb = 1\n')
    await pass(SETTLED)
    assert.equal(setting.value, 'b')
    rmSync(path)
    await pass(SETTLED)
    assert.equal(log.filter((line) => /was removed/.test(line)).length, 2, 'and once again the next time')
  })

  it('stays when the file is removed after an error of it', async () => {
    const { path, setting, log, pass } = wordsOf('[main]\na = 1\n')
    writeFileSync(path, '[main]\nbad = 1\n')
    await pass(SETTLED)
    rmSync(path)
    await pass(30)
    assert.equal(setting.value, 'a')
    assert.equal(log.filter((line) => /was removed/.test(line)).length, 1)
  })

  it('is the default of the package where there is no file, and the file once there is one', async () => {
    const { path, setting, pass } = settingOf('', { read: words }, 'auth.ini')
    assert.equal(setting.value, 'require_tls sender realm')
    writeFileSync(path, '[main]\nbad = 1\n')
    await pass(SETTLED)
    rmSync(path)
    await pass(SETTLED)
    assert.equal(setting.value, 'require_tls sender realm')
    writeFileSync(path, '[main]\na = 1\nb')
    await pass(SETTLED)
    assert.equal(setting.value, 'require_tls sender realm', 'nor is a cut one taken')
    writeFileSync(path, '[main]\na = 1\n')
    await pass(SETTLED)
    assert.equal(setting.value, 'a')
  })

  it('says so, and keeps what it was, when a link to nowhere takes its place or that of the default', async () => {
    const { path, setting, log, pass } = wordsOf('[main]\na = 1\n')
    rmSync(path)
    symlinkSync('/nowhere', path)
    await pass(SETTLED)
    assert.equal(setting.value, 'a')
    assert.match(log[0] ?? '', /ini: cannot be read: a link leads nowhere/)
    const other = settingOf('', { read: words }, 'limits.ini')
    symlinkSync('/nowhere', other.path)
    await other.pass(SETTLED)
    assert.match(other.log[0] ?? '', /limits\.ini: cannot be read: a link leads nowhere/)
    rmSync(other.path)
  })

  it('takes a file that it names before it is there, when it comes', async () => {
    const { path, setting, log, pass } = wordsOf('[main]\na = 1\n')
    const late = join(dir, 'late.txt')
    writeFileSync(path, `[main]\nfile = ${late}\n`)
    await pass(2 * SETTLED)
    assert.equal(setting.value, 'a')
    assert.match(log[0] ?? '', /late\.txt: cannot be read: ENOENT/)
    writeFileSync(late, 'three\n')
    await pass(SETTLED)
    assert.equal(setting.value, 'three')
  })

  it('does not lose a change that comes while it is being read', async () => {
    let reading = 0
    const { path, setting, pass } = wordsOf('[main]\na = 1\n', {
      read: words,
      sliced: async (what) => {
        const value = words(what)
        if (++reading === 1) writeFileSync(path, '[main]\nc = 1\nd = 1\n')
        return value
      },
    })
    writeFileSync(path, '[main]\nb = 1\n')
    await pass(5)
    assert.equal(reading, 1)
    await pass(SETTLED)
    assert.equal(setting.value, 'c d')
  })

  it('that a reader throws at is told once and stays', async () => {
    const { path, setting, log, pass } = wordsOf('[main]\na = 1\n', {
      read: (reading) => {
        const value = words(reading)
        if (value === 'throw') throw new Error('oops')
        return value
      },
    })
    writeFileSync(path, '[main]\nthrow = 1\n')
    await pass(30)
    assert.equal(setting.value, 'a')
    assert.equal(log.length, 1)
    assert.match(log[0] ?? '', /could not be read again: oops/)
    writeFileSync(path, '[main]\nb = 1\n')
    await pass(SETTLED)
    assert.equal(setting.value, 'b')
  })
})

describe('a file that a configuration names', () => {
  let lists = 0
  const listOf = (text: string) => {
    const list = join(dir, `list-${++lists}.txt`)
    writeFileSync(list, text)
    return list
  }

  it('changes the configuration when it changes', async () => {
    const list = listOf('one\n')
    const { setting, pass } = wordsOf(`[main]\nfile = ${list}\n`)
    writeFileSync(list, 'two\n')
    await pass(SETTLED)
    assert.equal(setting.value, 'two')
  })

  it('that ends its lines with CR is cut where its last line has none', async () => {
    const list = listOf('one\rtwo\r')
    const { setting, log, pass } = wordsOf(`[main]\nfile = ${list}\n`)
    writeFileSync(list, 'one\rtw')
    await pass(20)
    assert.equal(setting.value, 'one\rtwo')
    assert.match(log[0] ?? '', /has no line end/)
  })

  it("by a relative path is in Haraka's directory, wherever Haraka was started", async () => {
    const list = listOf('one\n')
    assert.notEqual(process.cwd(), dir)
    const { setting, log, pass } = wordsOf(`[main]\nfile = ${basename(list)}\n`)
    assert.deepEqual([setting.value, log], ['one', []])
    writeFileSync(list, 'two\n')
    await pass(SETTLED)
    assert.equal(setting.value, 'two')
  })

  it('may be without a line end where it always was', async () => {
    const list = listOf('one')
    const { setting, pass } = wordsOf(`[main]\nfile = ${list}\n`)
    writeFileSync(list, 'two')
    await pass(SETTLED)
    assert.equal(setting.value, 'two')
  })

  const ways: [string, (list: string) => void, RegExp][] = [
    [
      'is emptied',
      (list) => truncateSync(list),
      /is empty; a file that is meant to say nothing holds a comment/,
    ],
    ['holds only white space', (list) => writeFileSync(list, '\ufeff \r\n\t\n'), /is empty; /],
    [
      'holds only white space beyond ASCII',
      (list) => writeFileSync(list, '\u00a0\u2028\n\u2003\r'),
      /is empty; /,
    ],
    [
      'is cut inside a line',
      (list) => truncateSync(list, 6),
      /has no line end; is the file still being written/,
    ],
    ['is removed', (list) => rmSync(list), /cannot be read: ENOENT/],
    [
      'is replaced by a directory',
      (list) => {
        rmSync(list)
        mkdirSync(list)
      },
      /cannot be read: it is not a regular file/,
    ],
    [
      'is replaced by a FIFO',
      (list) => {
        rmSync(list)
        execFileSync('mkfifo', [list])
      },
      /cannot be read: it is not a regular file/,
    ],
  ]
  for (const [how, damage, said] of ways) {
    it(`and that ${how} leaves the last good one in force, with one line that names it`, async () => {
      const list = listOf('one\ntwo\n')
      const { setting, log, pass } = wordsOf(`[main]\nfile = ${list}\n`)
      damage(list)
      await pass(40)
      assert.deepEqual([setting.value, setting.generation], ['one\ntwo', 1])
      assert.equal(log.filter((line) => line.includes(list) && said.test(line)).length, 1, log.join('\n'))
      assert.equal(log.length, 2)
      rmSync(list, { recursive: true, force: true })
      writeFileSync(list, 'three\n')
      await pass(SETTLED)
      assert.equal(setting.value, 'three')
    })
  }

  it('is not taken before it is whole where it is truncated and rewritten in place while it is looked at', async () => {
    const list = listOf('one\ntwo\nthree\n')
    const { setting, log, pass } = wordsOf(`[main]\nfile = ${list}\n`)
    truncateSync(list)
    await pass(9, () => appendFileSync(list, 'four\nfi'))
    assert.equal(setting.value, 'one\ntwo\nthree')
    writeFileSync(list, 'four\nfive\n')
    await pass(SETTLED)
    assert.equal(setting.value, 'four\nfive')
    assert.equal(log.length, 1)
  })

  it('has to be quiet for a while when it is named for the first time, as it may be on its way', async () => {
    const { path, setting, log, pass } = wordsOf('[main]\na = 1\n')
    const list = listOf('one\ntw')
    writeFileSync(path, `[main]\nfile = ${list}\n`)
    await pass(6)
    appendFileSync(list, 'o\n')
    await pass(3)
    assert.equal(setting.value, 'a')
    await pass(3)
    assert.deepEqual([setting.value, log.length], ['one\ntwo', 1])
  })

  it('keeps the whole configuration as it was, also where another of its files is whole', async () => {
    const [one, two] = [listOf('one\n'), listOf('two\n')]
    const { setting, pass } = wordsOf(`[main]\nfile[] = ${one}\nfile[] = ${two}\n`)
    writeFileSync(one, 'three\n')
    truncateSync(two)
    await pass(30)
    assert.equal(setting.value, 'one two')
    writeFileSync(two, 'four\n')
    await pass(SETTLED)
    assert.equal(setting.value, 'three four')
  })

  it('is remembered as good also while the ini file is broken', async () => {
    const list = listOf('one\n')
    const text = `[main]\nfile = ${list}\n`
    const { path, setting, log, pass } = wordsOf(text)
    writeFileSync(path, '[main]\nbad = 1\n')
    await pass(SETTLED)
    truncateSync(list)
    writeFileSync(path, text)
    await pass(2 * SETTLED)
    assert.equal(setting.value, 'one\n'.trim())
    assert.ok(log.some((line) => line.includes(list) && /is empty/.test(line)))
  })
})

const asRoot = process.geteuid?.() === 0 ? {} : { skip: 'needs root, to go on as another user' }

describe('with user = nobody in smtp.ini, whose master stays root', asRoot, () => {
  const nobody = { user: 'nobody', group: 65534 }
  const list = join(dir, 'private.txt')
  before(() => chmodSync(dir, 0o755))
  after(() => assert.deepEqual([process.geteuid?.(), process.getegid?.()], [0, 0]))

  it('a file that nobody may read is none to put in force, for no worker could follow', async () => {
    const { path, setting, log, pass } = settingOf('[main]\na = 1\n', { read: words }, 'private.ini', nobody)
    assert.equal(log.length, 0)
    writeFileSync(`${path}.new`, '[main]\nb = 1\n', { mode: 0o600 })
    renameSync(`${path}.new`, path)
    await pass(30)
    assert.equal(setting.value, 'a')
    assert.equal(log.length, 2)
    assert.match(log[0] ?? '', /private\.ini: cannot be read: EACCES: permission denied/)
    assert.match(log[1] ?? '', /the last good configuration stays in force/)
    chmodSync(path, 0o644)
    await pass(SETTLED)
    assert.equal(setting.value, 'b')
    writeFileSync(list, 'one\n', { mode: 0o600 })
    writeFileSync(path, `[main]\nfile = ${list}\n`)
    await pass(20)
    assert.equal(setting.value, 'b')
    assert.ok(log.some((line) => line.includes(`${list}: cannot be read: EACCES`)))
  })

  it('is told at the start of each file that nobody may read: a change of it would never be in force', () => {
    const name = 'private2.ini'
    writeFileSync(list, 'one\n', { mode: 0o600 })
    writeFileSync(join(config, name), `[main]\nfile = ${list}\n`, { mode: 0o600 })
    const { setting, log } = settingOf('', { read: words }, name, nobody)
    assert.equal(setting.value, 'one')
    for (const path of [join(config, name), list])
      assert.equal(
        log.filter((line) => line.includes(`${path} cannot be read by nobody, as whom Haraka goes on`))
          .length,
        1,
        log.join('\n'),
      )
    assert.equal(settingOf('', { read: words }, name).log.length, 0)
  })
})

describe('a list of acl.ini', () => {
  const acl = (name: 'reject' | 'never' | 'relay', list: string) =>
    settingOf(
      `[files]\n${name}[] = ${list}\n`,
      { read: (reading) => runAtOnce(readAcl(reading)) },
      `acl-${++files}.ini`,
    )

  for (const name of ['reject', 'never', 'relay'] as const)
    for (const text of ['', ' \n\n', '\u00a0\n', '\u2028\ufeff\u3000\r\n', '192.0.2.0/2'])
      it(`${name}[] that becomes ${JSON.stringify(text)} keeps its entries: strangers could relay`, async () => {
        const list = join(dir, `${name}-${++files}.txt`)
        writeFileSync(list, '192.0.2.0/24\n')
        const { setting, log, pass } = acl(name, list)
        writeFileSync(list, text)
        await pass(20)
        assert.ok(setting.value[name].table.lookup('192.0.2.9') >= 0)
        assert.ok(setting.value[name].table.lookup('10.0.0.1') < 0)
        assert.equal(log.filter((line) => line.includes(`acl.ini [files] ${list}: `)).length, 1)
        writeFileSync(list, '# nobody any more\n')
        await pass(SETTLED)
        assert.ok(setting.value[name].table.lookup('192.0.2.9') < 0, 'comments only is a real empty list')
      })
})

describe('white space only', () => {
  it('is what trim() leaves nothing of, at any place', () => {
    const spaces = [...'\t\n\v\f\r \u00a0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000\ufeff']
    const others = ['#', '\u200b', '\u0085', 'é', '\0']
    const text = fc.array(fc.constantFrom(...spaces, ...spaces, ...others), { maxLength: 6 })
    fc.assert(
      fc.property(text, (chars) => {
        const data = Buffer.from(chars.join(''))
        assert.equal(isEmpty(data), data.toString().trim() === '')
      }),
    )
  })
})

describe("Haraka's host_list", () => {
  it('that is emptied leaves its domains ours', async () => {
    const hostList = join(dir, 'config', 'host_list')
    writeFileSync(hostList, 'one.example\n')
    const world = { ownListener: () => false, hostName: 'mx.example' }
    const { setting, log, pass } = settingOf('[main]\nhost_list = true\n', {
      read: (reading) => readDomains(reading, world),
    })
    writeFileSync(hostList, '')
    await pass(SETTLED)
    assert.ok(setting.value.domains.find('one.example'))
    assert.match(log[0] ?? '', /^host_list: is empty/)
  })
})

describe('at the start', () => {
  const places: [string, (config: string) => void, RegExp][] = [
    ['acl.ini is a link to itself', (config) => symlinkSync('acl.ini', join(config, 'acl.ini')), /ELOOP/],
    [
      'acl.ini is a link that leads nowhere',
      (config) => symlinkSync('/nowhere/acl', join(config, 'acl.ini')),
      /a link/,
    ],
    [
      'its directory is a link to itself',
      (config) => {
        rmSync(config, { recursive: true })
        symlinkSync('relay-guard', config)
      },
      /ELOOP/,
    ],
    [
      'its directory is a link that leads nowhere: no volume is mounted there',
      (config) => {
        rmSync(config, { recursive: true })
        symlinkSync('/nowhere/relay-guard', config)
      },
      /a link/,
    ],
    [
      'its directory is a file',
      (config) => {
        rmSync(config, { recursive: true })
        writeFileSync(config, '')
      },
      /ENOTDIR/,
    ],
  ]
  for (const [how, make, said] of places)
    it(`it is an error, and not the defaults, where ${how}`, async () => {
      const other = mkdtempSync(join(tmpdir(), 'relay-guard-place-'))
      mkdirSync(join(other, 'config', 'relay-guard'), { recursive: true })
      writeFileSync(join(other, 'config', 'plugins'), 'relay-guard/acl\n')
      make(join(other, 'config', 'relay-guard'))
      const { errors } = readingOf('acl.ini', iniPath(other, 'acl.ini'), new Map())
      assert.equal(errors.length, 1)
      assert.match(printConfigError(errors[0]!), /^acl\.ini: cannot be read: /)
      assert.match(printConfigError(errors[0]!), said)
      const { status, out } = await relayGuard(['-c', other, 'check'])
      assert.equal(status, 1)
      assert.match(out, /^error: acl\.ini: cannot be read: /m)
      rmSync(other, { recursive: true })
    })

  it("a link that leads nowhere in place of Haraka's redis.ini is an error of ours", () => {
    const link = join(dir, 'config', 'redis.ini')
    symlinkSync('/nowhere/redis.ini', link)
    const { value, errors } = readFileText()
    rmSync(link)
    assert.ok(value)
    assert.match(
      errors.join(),
      /^redis\.ini \[redis\]: config\/redis\.ini cannot be read: a link leads nowhere/,
    )
    assert.deepEqual(readFileText().errors, [])
  })

  const readFileText = () => {
    const reading = readingOf('redis.ini', iniPath(dir, 'redis.ini'), new Map())
    return { value: readRedis(reading), errors: reading.errors.map(printConfigError) }
  }

  const script = join(__dirname, 'support', 'settings-start.js')
  const start = (how: string) => run(process.execPath, [script, how], { timeout: 120_000 })

  it('Haraka does not start with an error, and the errors of all files are printed, one a line', async () => {
    const { stdout } = await start('two broken files')
    assert.deepEqual(stdout.trim().split('\n'), [
      'crit: acl.ini [realy]: is not a section of this file; did you mean [relay]?',
      'acl registered',
      'crit: auth.ini [main] sender: is not one of any, domain, address',
      'refused: config/relay-guard has errors (2), listed above; Haraka does not start',
    ])
  })

  it('a worker forked while a file is broken goes on with what the master found good, list files too', async () => {
    const { stdout } = await start('worker')
    assert.deepEqual(stdout.trim().split('\n'), [
      'worker: 192.0.2.1 may relay, 198.51.100.1 may relay, same hash: true',
      'worker: 192.0.2.1 may relay, 198.51.100.1 may relay, same hash: true',
      'left in the temp directory: none',
    ])
  })

  it('says nothing where nothing is wrong', () =>
    assert.doesNotThrow(() => failStartOnErrors(pluginFor().plugin)))
})
