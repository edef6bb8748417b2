// The command `relay-guard` in processes of its own, and a directory of Haraka for it.
import { execFile, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { harakaScript } from './install'
import { PATIENCE } from './patience'

/** dist/, which is the package. */
const built = join(__dirname, '..', '..')
const command = join(built, 'cli', 'index.js')

export interface Ended {
  status: number | null
  out: string
  err: string
}

/** Runs `relay-guard …` to its end, with something on its standard input. */
export function relayGuard(args: string[], input = '', cwd = tmpdir()): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [command, ...args], { cwd })
    const timer = setTimeout(() => child.kill('SIGKILL'), PATIENCE)
    let out = ''
    let err = ''
    child.stdout.on('data', (data) => {
      out += data
    })
    child.stderr.on('data', (data) => {
      err += data
    })
    child.once('error', reject)
    child.once('close', (status) => {
      clearTimeout(timer)
      resolve({ status, out, err })
    })
    child.stdin.on('error', () => undefined)
    child.stdin.end(input)
  })
}

/** What `sh -c` makes of a line in which `relay-guard` is the command. */
export function inShell(line: string, cwd: string): Promise<Ended> {
  const script = `relay-guard() { '${process.execPath}' '${command}' "$@"; }\n${line}`
  return new Promise((resolve) => {
    execFile('bash', ['-c', script], { cwd, timeout: PATIENCE }, (error, out, err) =>
      resolve({ status: error ? Number(error.code) : 0, out, err }),
    )
  })
}

/** A directory of `haraka -i`, with the package where npm puts it. */
export class HarakaDir {
  private constructor(readonly dir: string) {}

  static async make(): Promise<HarakaDir> {
    const dir = mkdtempSync(join(tmpdir(), 'relay-guard-cli-'))
    await promisify(execFile)(process.execPath, [harakaScript, '-i', dir])
    mkdirSync(join(dir, 'node_modules'))
    symlinkSync(built, join(dir, 'node_modules', 'haraka-plugin-relay-guard'))
    mkdirSync(join(dir, 'config', 'relay-guard'))
    return new HarakaDir(dir)
  }

  /** Writes a file under config/. */
  put(name: string, text: string): void {
    writeFileSync(join(this.dir, 'config', name), text)
  }

  /** Writes a file under config/relay-guard/. */
  ini(name: string, text: string): void {
    this.put(join('relay-guard', name), text)
  }

  /** Writes config/plugins. */
  plugins(...lines: string[]): void {
    this.put('plugins', `${lines.join('\n')}\n`)
  }

  remove(): void {
    rmSync(this.dir, { recursive: true, force: true })
  }
}
