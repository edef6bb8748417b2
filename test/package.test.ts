// What the package promises to npm: where it installs, and that README says the same.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { OLDEST } from '../core/haraka/supported'
import { root } from './support/install'

interface Manifest {
  name: string
  version: string
  engines?: { node?: string }
  dependencies?: Record<string, string>
  peerDependencies?: Record<string, string>
}
const read = (...path: string[]) => readFileSync(join(root, ...path), 'utf8')
const manifest = JSON.parse(read('dist', 'package.json')) as Manifest

/** The manifest of a package, found as Node finds it from the one that depends on it. */
function manifestOf(name: string, from: string): { directory: string; found: Manifest } {
  for (const folder of createRequire(join(from, 'x.js')).resolve.paths(name) ?? []) {
    try {
      const directory = join(folder, name)
      return { directory, found: JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8')) }
    } catch {
      // Not in this one.
    }
  }
  throw new Error(`${name} is not installed for ${from}`)
}

/** Every package that npm installs with ours. */
function allDependencies(): Map<string, Manifest> {
  const all = new Map<string, Manifest>()
  const visit = ({ dependencies = {} }: Manifest, from: string) => {
    for (const name of Object.keys(dependencies)) {
      const { directory, found } = manifestOf(name, from)
      if (all.has(directory)) continue
      all.set(directory, found)
      visit(found, directory)
    }
  }
  visit(manifest, root)
  return all
}

describe('the package', () => {
  it('installs on Node 20 under engine-strict: nothing that it depends on asks for more', () => {
    assert.equal(manifest.engines?.node, '>=20')
    const newer = [...allDependencies().values()]
      .filter(({ engines }) => Number(/\d+/.exec(engines?.node ?? '0')?.[0] ?? 0) > 20)
      .map(({ name, version, engines }) => `${name} ${version} needs ${engines?.node}`)
    assert.deepEqual(newer, [])
  })

  it('installs beside a Haraka of either name: npm takes the two for one package, and refuses a peer of the other name', () => {
    assert.equal(manifest.peerDependencies, undefined)
    assert.match(read('README.md'), new RegExp(`Haraka ${OLDEST.join('\\.')} or later`))
  })

  it('is tested with the versions that README names', () => {
    const matrix = read('scripts', 'test-matrix.mjs')
    for (const node of ['22', '24']) {
      assert.match(read('README.md'), new RegExp(`Node\\.js 20,.*\\b${node}\\b`))
      assert.match(matrix, new RegExp(`node: '${node}'`))
    }
    for (const spec of [`Haraka@${OLDEST.join('.')}`, 'haraka@']) assert.ok(matrix.includes(spec), spec)
  })
})
