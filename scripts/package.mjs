// Turns dist/ into the npm package: its package.json, the files that tsc does not copy, and a folder
// with a package.json for each plugin, so that Haraka finds the line `relay-guard/acl`.
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const dist = join(root, 'dist')
const { name, version, description, keywords, license, engines, dependencies } = JSON.parse(
  readFileSync(join(root, 'package.json'), 'utf8'),
)
const plugins = readdirSync(join(root, 'plugins')).filter((p) =>
  existsSync(join(root, 'plugins', p, 'index.ts')),
)

for (const plugin of plugins) {
  mkdirSync(join(dist, plugin), { recursive: true })
  writeFileSync(join(dist, plugin, 'package.json'), `{ "main": "../plugins/${plugin}/index.js" }\n`)
  // Where `haraka -h relay-guard/acl` looks in a package that stands in Haraka's own node_modules.
  const text = readFileSync(join(root, 'docs', `${plugin}.md`), 'utf8')
  writeFileSync(join(dist, plugin, 'README.md'), text.replaceAll(/\]\((?=[\w-]+\.md)/g, '](../docs/'))
}
for (const folder of ['core', 'plugins']) {
  for (const file of readdirSync(join(root, folder), { recursive: true })) {
    if (file.endsWith('.lua')) cpSync(join(root, folder, file), join(dist, folder, file))
  }
}
for (const file of ['config', 'docs', 'examples', 'README.md', 'CHANGELOG.md', 'LICENSE']) {
  if (existsSync(join(root, file))) cpSync(join(root, file), join(dist, file), { recursive: true })
}
if (existsSync(join(dist, 'cli', 'index.js'))) chmodSync(join(dist, 'cli', 'index.js'), 0o755)

const manifest = {
  name,
  version,
  description,
  keywords,
  license,
  engines,
  dependencies,
  main: 'plugins/domains/index.js',
  bin: { 'relay-guard': 'cli/index.js' },
  files: [
    'core/**/*.js',
    'core/**/*.lua',
    'plugins/**/*.js',
    'cli/**/*.js',
    'config',
    'docs',
    'examples',
    'CHANGELOG.md',
    ...plugins,
  ],
}
writeFileSync(join(dist, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`)
