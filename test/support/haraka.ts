// A real Haraka in a directory of its own: started, watched and stopped by pid.
import { type ChildProcess, spawn } from 'node:child_process'
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { harakaScript, installHaraka } from './install'
import { until } from './patience'
import { freePort } from './ports'

export { installHaraka } from './install'

export interface HarakaOptions {
  /** The lines of config/plugins. `fake_rdns` is added: there is no DNS in a test. */
  plugins: string[]
  /** Files by path under config/, e.g. `relay-guard/acl.ini`. */
  files?: Record<string, string>
  /** Local plugins by name: the source of plugins/NAME.js. */
  localPlugins?: Record<string, string>
  /** Worker processes; 0: one process without a master. */
  nodes?: number
  /** smtp.ini's `listen`; as it is not given, a free port on 127.0.0.1. */
  listen?: string
  /** Offer STARTTLS with a self-signed certificate. */
  tls?: boolean
  env?: Record<string, string>
}

export interface Haraka {
  port: number
  dir: string
  pid: number
  /** All that it has written to stdout and stderr. */
  output(): string
  /** Lines of the log that speak of a program error: there should be none. */
  failures(): string[]
  /** The first line that matches, written before or after the call. Rejects with the log's end when none comes. */
  waitForLog(pattern: RegExp): Promise<string>
  /** Writes a file under config/: at once (a rename), or in place as an editor does. */
  write(file: string, text: string, how?: 'atomic' | 'in place'): void
  /** The pids of the workers that live. */
  workers(): number[]
  /** Waits until nothing is left in the outbound queue. */
  queueEmpty(ms?: number): Promise<void>
  kill(signal: NodeJS.Signals): void
  stop(): Promise<void>
}

/** What a Haraka that did not start has left. */
export interface Failure {
  code: number | null
  output: string
}

class StartError extends Error {
  constructor(readonly failure: Failure) {
    super(`Haraka ended with status ${failure.code}:\n${failure.output}`)
  }
}

// Last, so that it hides no look of ours at this hook.
const fakeRdns = `exports.register = function () { this.register_hook('lookup_rdns', 'answer', 100) }
exports.answer = (next) => next(OK, 'client.example')\n`

const defaults: Record<string, string> = {
  me: 'mx.local.test\n',
  'log.ini': '[main]\nlevel=info\n',
  // A master that is only late is no failure: its workers would count by themselves.
  'relay-guard/redis.ini': '[redis]\nenabled = false\ntimeout = 5s\n',
}

/** A broken configuration is also said with CRIT; it has its file, section and key in front. */
const programError = /Plugin \S+ (failed|timed out)|Caught exception|[Uu]nhandled|(Type|Reference|Range)Error/

const running = new Set<{ child: ChildProcess; dir: string }>()
process.on('exit', () => {
  for (const { child, dir } of running) {
    child.kill('SIGKILL')
    rmSync(dir, { recursive: true, force: true })
  }
})

function put(file: string, text: string) {
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, text)
}

async function prepare(options: HarakaOptions, listen: string): Promise<string> {
  const installed = await installHaraka()
  const dir = mkdtempSync(join(tmpdir(), 'relay-guard-haraka-'))
  try {
    fill(dir, installed, options, listen)
    return dir
  } catch (error) {
    rmSync(dir, { recursive: true, force: true })
    throw error
  }
}

function fill(dir: string, installed: string, options: HarakaOptions, listen: string) {
  cpSync(join(installed, 'config'), join(dir, 'config'), { recursive: true })
  copyFileSync(join(installed, 'package.json'), join(dir, 'package.json'))
  symlinkSync(join(installed, 'node_modules'), join(dir, 'node_modules'))
  const lines = ['fake_rdns', ...(options.tls ? ['tls'] : []), ...options.plugins]
  const files: Record<string, string> = {
    ...defaults,
    'smtp.ini': `listen=${listen}\nnodes=${options.nodes ?? 0}\n`,
    plugins: `${lines.join('\n')}\n`,
    ...options.files,
  }
  for (const [file, text] of Object.entries(files)) put(join(dir, 'config', file), text)
  for (const [name, source] of Object.entries({ fake_rdns: fakeRdns, ...options.localPlugins })) {
    put(join(dir, 'plugins', `${name}.js`), source)
  }
}

/** Collects what a process writes, and answers questions about it. */
function record(child: ChildProcess) {
  let text = ''
  child.stdout?.setEncoding('utf8').on('data', (part: string) => {
    text += part
  })
  child.stderr?.setEncoding('utf8').on('data', (part: string) => {
    text += part
  })
  const failures = () => text.split('\n').filter((line) => programError.test(line))
  const find = (pattern: RegExp) => text.split('\n').find((line) => pattern.test(line))
  async function waitForLog(pattern: RegExp): Promise<string> {
    await until(
      () => find(pattern) !== undefined,
      () => `a line ${pattern}; the log ends:\n${text.slice(-1000)}`,
    )
    return find(pattern) ?? ''
  }
  return { output: () => text, failures, waitForLog }
}

/** Resolves when it listens (each worker, if there are any); rejects with a StartError when it ends before. */
async function untilListening(child: ChildProcess, output: () => string, nodes: number) {
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  const listening = async () => {
    const pattern = nodes ? /worker \d+ listening on/g : /Listening on/g
    const isUp = () => (output().match(pattern)?.length ?? 0) >= Math.max(1, nodes)
    const hasEnded = () => child.exitCode !== null || child.signalCode !== null
    await until(
      () => isUp() || hasEnded(),
      () => `that Haraka listens:\n${output()}`,
    )
    return isUp() ? 'up' : undefined
  }
  const state = await Promise.race([listening(), ended.then(() => undefined)])
  if (state !== 'up') throw new StartError({ code: await ended, output: output() })
}

/** Starts a Haraka and waits until its log (level notice at least) says that it listens. Rejects with its output when it ends instead. */
export async function startHaraka(options: HarakaOptions): Promise<Haraka> {
  const listen = options.listen ?? `127.0.0.1:${await freePort()}`
  const dir = await prepare(options, listen)
  const child = spawn(process.execPath, [harakaScript, '-c', dir], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NODE_TEST_CONTEXT: '', ...options.env },
  })
  const handle = { child, dir }
  running.add(handle)
  const { output, failures, waitForLog } = record(child)
  const closed = new Promise((resolve) => child.once('close', resolve))
  const workers = () =>
    [...output().matchAll(/worker started.*?pid=(\d+)/g)].map(([, pid]) => Number(pid)).filter(isAlive)
  async function stop() {
    const left = workers()
    child.kill('SIGTERM')
    // A worker that is being shut down lives on as long as its clients, and holds our pipes open.
    const killWorkers = () => {
      for (const pid of left.filter(isAlive)) process.kill(pid, 'SIGKILL')
    }
    const forced = setTimeout(() => {
      child.kill('SIGKILL')
      killWorkers()
    }, 3000)
    await closed
    clearTimeout(forced)
    killWorkers()
    running.delete(handle)
    rmSync(dir, { recursive: true, force: true, maxRetries: 3 })
  }
  try {
    await untilListening(child, output, options.nodes ?? 0)
  } catch (error) {
    await stop()
    throw error
  }
  return {
    port: Number(/:(\d+)/.exec(listen)?.[1]),
    dir,
    pid: child.pid ?? 0,
    output,
    failures,
    waitForLog,
    workers,
    stop,
    kill: (signal) => void child.kill(signal),
    write: (file, text, how = 'atomic') => write(join(dir, 'config', file), text, how),
    queueEmpty: (ms) => queueEmpty(join(dir, 'queue'), ms),
  }
}

/** Starts a Haraka that is expected to refuse its configuration: its exit status and all that it wrote. */
export async function startHarakaExpectingFailure(options: HarakaOptions): Promise<Failure> {
  try {
    const haraka = await startHaraka(options)
    await haraka.stop()
    throw new Error(`Haraka has started:\n${haraka.output()}`)
  } catch (error) {
    if (error instanceof StartError) return error.failure
    throw error
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

function write(file: string, text: string, how: 'atomic' | 'in place') {
  if (how === 'in place') return put(file, text)
  put(`${file}.new`, text)
  renameSync(`${file}.new`, file)
}

async function queueEmpty(queue: string, ms?: number) {
  const files = () => (existsSync(queue) ? readdirSync(queue).filter((name) => name !== 'quarantine') : [])
  await until(
    () => files().length === 0,
    () => `an empty queue, without ${files().join(', ')}`,
    ms,
  )
}
