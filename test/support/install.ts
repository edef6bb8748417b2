// A Haraka install as a user has it: `haraka -i`, then the packed package by npm. Made once a tarball, shared by all tests.
import { execFile, execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** The project's root, seen from dist/test/support. */
export const root = join(__dirname, '../../..')

const NPM_OPTIONS = ['--no-save', '--prefer-offline', '--no-audit', '--no-fund', '--ignore-scripts']

/** Which Haraka the tests run on: HARAKA_PACKAGE (`Haraka@3.2.1`, `haraka@3.3.4`), or the one in our node_modules. */
const harakaPackage = process.env['HARAKA_PACKAGE'] || 'Haraka'
const [harakaName = ''] = harakaPackage.split('@')

/** The node_modules that Haraka is in, with the packages that it depends on. Made by npm where it is another Haraka. */
export const harakaModules =
  harakaPackage === 'Haraka' ? join(root, 'node_modules') : modulesOf(harakaPackage)

/** Haraka's own directory. */
export const harakaHome = join(harakaModules, harakaName)

/** 3.2 differs where its core reads commands: it takes no space in a quoted local part, and counts fewer errors. */
export const isHaraka32 = /^3\.2\./.test(
  JSON.parse(readFileSync(join(harakaHome, 'package.json'), 'utf8')).version,
)

/** Haraka's own start script. Run by node itself, so that its pid is the one we started. */
export const harakaScript = join(harakaHome, 'bin', 'haraka')

/** Installs a Haraka once, for all test files and runs. */
function modulesOf(spec: string): string {
  const ready = join(tmpdir(), `relay-guard-with-${spec.replace(/\W/g, '-')}`)
  if (!existsSync(ready)) {
    const fresh = mkdtempSync(`${ready}-`)
    writeFileSync(join(fresh, 'package.json'), '{ "private": true }\n')
    execFileSync('npm', ['install', ...NPM_OPTIONS, spec], { cwd: fresh, stdio: 'pipe' })
    try {
      renameSync(fresh, ready)
    } catch {
      // Another test file was faster.
      rmSync(fresh, { recursive: true, force: true })
    }
  }
  return join(ready, 'node_modules')
}

function tarball(): string {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  const file = join(root, `haraka-plugin-relay-guard-${version}.tgz`)
  if (!existsSync(file)) throw new Error(`${file} is missing: make it with "npm run pack"`)
  return file
}

/** A key, a certificate and known Diffie-Hellman parameters: without these Haraka computes its own, which takes a core for a while. */
async function makeCertificate(config: string) {
  const key = join(config, 'tls_key.pem')
  const cert = join(config, 'tls_cert.pem')
  const names = ['-subj', '/CN=mx.local.test', '-addext', 'subjectAltName=DNS:mx.local.test,IP:127.0.0.1']
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '30']
  await run('openssl', ['req', '-x509', ...kind, ...names, '-keyout', key, '-out', cert])
  const group = ['-genparam', '-algorithm', 'DH', '-pkeyopt', 'group:modp_2048']
  await run('openssl', ['genpkey', ...group, '-out', join(config, 'dhparams.pem')])
}

async function make(directory: string, packed: string) {
  await run(process.execPath, [harakaScript, '-i', directory])
  await run('npm', ['install', ...NPM_OPTIONS, packed], { cwd: directory })
  await makeCertificate(join(directory, 'config'))
}

const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** Takes the lock (a directory that names its owner), or waits until its owner is done or dead. */
async function lock(path: string): Promise<boolean> {
  try {
    mkdirSync(path)
    writeFileSync(join(path, 'pid'), String(process.pid))
    return true
  } catch {
    await sleep(100)
    const owner = existsSync(join(path, 'pid')) ? Number(readFileSync(join(path, 'pid'), 'utf8')) : 0
    if (owner && !alive(owner)) rmSync(path, { recursive: true, force: true })
    return false
  }
}

/** Every build makes another install: those of other days go. */
function removeOld() {
  const yesterday = Date.now() - 86_400_000
  for (const name of readdirSync(tmpdir()).filter((entry) => entry.startsWith('relay-guard-install-'))) {
    const directory = join(tmpdir(), name)
    const made = statSync(directory, { throwIfNoEntry: false })?.mtimeMs
    if (made !== undefined && made < yesterday) rmSync(directory, { recursive: true, force: true })
  }
}

async function installOnce(): Promise<string> {
  const packed = tarball()
  const hash = createHash('sha256')
    .update(harakaPackage)
    .update(readFileSync(packed))
    .digest('hex')
    .slice(0, 16)
  const ready = join(tmpdir(), `relay-guard-install-${hash}`)
  while (!existsSync(ready)) {
    if (!(await lock(`${ready}.lock`))) continue
    try {
      if (existsSync(ready)) break
      removeOld()
      const fresh = mkdtempSync(`${ready}-`)
      await make(fresh, packed)
      renameSync(fresh, ready)
    } finally {
      rmSync(`${ready}.lock`, { recursive: true, force: true })
    }
  }
  return ready
}

let installed: Promise<string> | undefined

/**
 * The directory of an install with the packed package in its node_modules. Test files run side by side: the first
 * makes it, the others wait. Rejects with npm's output when the package cannot be installed.
 */
export function installHaraka(): Promise<string> {
  installed ??= installOnce()
  return installed
}
