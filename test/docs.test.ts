// What the pages for operators show is what the program takes.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, it } from 'node:test'
import { readArguments } from '../cli/arguments'
import { VERBS } from '../cli/verbs'
import type { Reading } from '../core/ini/reading'
import { readRedis } from '../core/redis/config'
import { runAtOnce } from '../core/time-slices'
import { readAcl } from '../plugins/acl/config'
import { readAuth } from '../plugins/auth/config'
import { readDomains } from '../plugins/domains/config'
import { readLimits } from '../plugins/limits/config'
import { readOverload } from '../plugins/overload/config'
import { root } from './support/install'
import { readText } from './support/reading'

const pages = [
  'README.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
  ...readdirSync(join(root, 'docs')).map((name) => `docs/${name}`),
]
const textOf = (page: string) => readFileSync(join(root, page), 'utf8')

/** What GitHub makes of a heading. */
const anchorOf = (heading: string) =>
  heading
    .toLowerCase()
    .replaceAll(/[^\w\s-]/g, '')
    .trim()
    .replaceAll(' ', '-')

describe('links', () => {
  for (const page of pages) {
    it(`of ${page} lead somewhere`, () => {
      for (const [, link = ''] of textOf(page).matchAll(/\]\((?!https?:)([^)]+)\)/g)) {
        const [file = '', anchor] = link.split('#')
        const target = file === '' ? page : join(dirname(page), file)
        assert.ok(existsSync(join(root, target)), link)
        if (!anchor) continue
        const headings = [...textOf(target).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
          anchorOf(heading),
        )
        assert.ok(headings.includes(anchor), link)
      }
    })
  }
})

describe('files of this repository', () => {
  for (const page of pages) {
    it(`that ${page} names are there`, () => {
      const named =
        /`((?:core|plugins|cli|test|demo|bench|scripts|examples|config\/relay-guard)\/[\w./-]+\.\w+)`/g
      const paths = [...textOf(page).matchAll(named)].map(([, path = '']) => path)
      const missing = paths.filter((path) => !/NAME|\.timeout$/.test(path) && !existsSync(join(root, path)))
      assert.deepEqual(missing, [])
    })
  }
})

const world = { ownListener: () => false, hostName: 'mx.example' }
const READERS: [file: string, read: (reading: Reading) => unknown][] = [
  ['acl.ini', (reading) => runAtOnce(readAcl(reading))],
  ['auth.ini', readAuth],
  ['domains.ini', (reading) => readDomains(reading, world)],
  ['limits.ini', readLimits],
  ['overload.ini', readOverload],
  ['redis.ini', readRedis],
]
/** Files that an example names, and hashes that it leaves out. */
const without = (text: string) =>
  text.replaceAll(/^(?:\w+\[\] = |tls_ca = )\/.*$/gm, '').replaceAll(/^\w+ = \$scrypt\$.*…$/gm, '')

describe('ini files in the pages', () => {
  for (const page of pages) {
    // Those of Haraka itself are named in the line before.
    const blocks = [...textOf(page).matchAll(/([^\n]*)\n+```ini\n(.*?)```/gs)].filter(
      ([, before = '']) => !/(?:log|smtp|outbound|connection)\.ini/.test(before),
    )
    for (const [, , text = ''] of blocks) {
      it(`${page}: ${text.split('\n')[0]} …`, () => {
        const found = READERS.map(([file, read]) => readText(file, without(text), read).errors)
        const best = found.sort((a, b) => a.length - b.length)[0] ?? []
        assert.deepEqual(best, [])
      })
    }
  }
})

describe('commands in the pages', () => {
  for (const page of pages) {
    const commands = [
      ...textOf(page).matchAll(/(?:^|`|\$ )(?:npx )?relay-guard (?!needs |does not )((?:-|[a-z])[^`\n#]*)/gm),
    ]
    for (const [, line = ''] of commands) {
      it(`${page}: relay-guard ${line.trim()}`, () => {
        const words = line
          .trim()
          .replace(/ VERB$/, ' check')
          .replaceAll(/[[\]]/g, '')
          .split(/\s+/)
        assert.doesNotThrow(() => readArguments(words, VERBS))
      })
    }
  }
})

describe('examples', () => {
  it('have a systemd unit that systemd reads', (test) => {
    if (spawnSync('systemd-analyze', ['--version']).status !== 0)
      return test.skip('systemd-analyze is not installed')
    const dir = mkdtempSync(join(tmpdir(), 'relay-guard-unit-'))
    try {
      const unit = readFileSync(join(root, 'examples/systemd/haraka.service'), 'utf8')
      writeFileSync(join(dir, 'haraka.service'), unit.replace('/usr/bin/haraka', process.execPath))
      const { stderr, status } = spawnSync('systemd-analyze', ['verify', join(dir, 'haraka.service')], {
        encoding: 'utf8',
      })
      assert.deepEqual(
        [status, stderr.split('\n').filter((line) => line.includes('haraka.service'))],
        [0, []],
      )
    } finally {
      rmSync(dir, { recursive: true })
    }
  })

  it('name the tarball of this version', () => {
    const { version } = JSON.parse(textOf('package.json')) as { version: string }
    for (const page of ['README.md', 'docs/upgrade.md', 'examples/docker/Dockerfile'])
      for (const [, named] of textOf(page).matchAll(/haraka-plugin-relay-guard-(\d+\.\d+\.\d+)\.tgz/g))
        assert.equal(named, version, page)
  })
})
