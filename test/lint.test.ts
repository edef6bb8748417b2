// The lint rules that hold the layout: what may import what. Tried on files made for it, with our own biome.json.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { root } from './support/install'

const biome = join(root, 'node_modules', '.bin', 'biome')
let dir: string

before(() => {
  dir = mkdtempSync(join(tmpdir(), 'relay-guard-lint-'))
  const { vcs: _vcs, ...config } = JSON.parse(readFileSync(join(root, 'biome.json'), 'utf8'))
  writeFileSync(join(dir, 'biome.json'), JSON.stringify(config))
})
after(() => rmSync(dir, { recursive: true, force: true }))

/** What `biome lint` says of a file with this text. */
function lint(file: string, text: string): Promise<string> {
  mkdirSync(dirname(join(dir, file)), { recursive: true })
  writeFileSync(join(dir, file), text)
  return new Promise((resolve) => {
    execFile(biome, ['lint', '--error-on-warnings', file], { cwd: dir }, (error, stdout, stderr) =>
      resolve(error ? `${stdout}${stderr}` : 'clean'),
    )
  })
}

/** File, what it imports, and whether it may. */
const cases: [string, string, boolean][] = [
  ['plugins/x/policy.ts', '../../core/haraka/relaying', false],
  ['plugins/x/policy/y.ts', '../../../core/haraka/types', false],
  ['plugins/x/policy/y.ts', '../../../core/redis/connection', false],
  ['plugins/x/policy/y.ts', '../hooks/runtime', false],
  ['plugins/x/policy/y.ts', 'ioredis', false],
  ['plugins/x/policy/y.ts', '../../../core/decision', true],
  ['plugins/x/policy/y.ts', '../config', true],
  ['plugins/x/hooks/y.ts', '../../../core/haraka/types', true],
  ['core/net/y.ts', '../haraka/types', false],
  ['core/ini/y.ts', '../haraka/types', false],
  ['core/next-hop/y.ts', '../haraka/types', false],
  ['core/decision.ts', './haraka/types', false],
  ['core/text.ts', './haraka/reply', false],
  ['core/relay-right.ts', './haraka/relaying', false],
  ['core/party.ts', './haraka/types', false],
  ['core/net/y.ts', '../../plugins/x/config', false],
  ['core/journal/y.ts', '../../plugins/x/config', false],
  ['core/net/y.ts', '../text', true],
  ['core/haraka/y.ts', './types', true],
]

describe('the layout', () => {
  for (const [file, from, may] of cases)
    for (const kind of ['import', 'import type'])
      it(`${file} ${may ? 'may' : 'may not'} ${kind} ${from}`, async () => {
        const said = await lint(file, `${kind} { a } from '${from}'\n\nexport const b: typeof a = a\n`)
        if (may) assert.equal(said, 'clean')
        else assert.match(said, /lint\/style\/noRestrictedImports/)
      })

  for (const kind of ['import', 'import type'])
    it(`goes round in no circle, by ${kind} neither`, async () => {
      const importing = (name: string) => `${kind} { a } from './${name}'\n\nexport const b: typeof a = a\n`
      await lint('core/journal/one.ts', importing('two'))
      assert.match(await lint('core/journal/two.ts', importing('one')), /lint\/suspicious\/noImportCycles/)
    })
})
