// All benchmarks in one run: prints tables and writes docs/benchmarks.md. With names of parts: only those, only printed.
import { execFile } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { root } from '../test/support/install'
import { Child } from './child'
import { compareFloods } from './flood'
import type { Load, Report } from './load'
import { compareSessions } from './sessions'
import { groups } from './setups'

const run = promisify(execFile)
const load = createRequire(__filename)

const number = (name: string, fallback: number): number => Number(process.env[name]) || fallback
const rounds = number('BENCH_ROUNDS', 8)
const seconds = number('BENCH_SECONDS', 3)

/** A benchmark that is a program of its own, and prints tables. */
async function program(name: string): Promise<string> {
  const { stdout } = await run(process.execPath, [join(__dirname, `${name}.js`)], { maxBuffer: 1 << 24 })
  return stdout
}

async function sessions(): Promise<string> {
  const loader = Child.start<Load, Report>('load')
  const sink = Child.start<object, number>('sink')
  try {
    const sinkPort = await sink.ask({})
    const parts: string[] = []
    for (const group of groups)
      parts.push(await compareSessions(group, loader, sinkPort, { rounds, seconds }))
    return parts.join('\n')
  } finally {
    await Promise.all([loader.stop(), sink.stop()])
  }
}

async function flood(): Promise<string> {
  const legitimate = Child.start<Load, Report>('load')
  const flooder = Child.start<Load, Report>('load')
  try {
    return await compareFloods(legitimate, flooder, Math.ceil(rounds / 4), seconds)
  } finally {
    await Promise.all([legitimate.stop(), flooder.stop()])
  }
}

interface Part {
  name: string
  title: string
  about: string
  measure: () => Promise<string>
}

const parts: Part[] = [
  {
    name: 'acl-lookup',
    title: 'The ACL look-up',
    about:
      'Our table of prefixes beside the stock relay plugin, which tries its entries one after the other.',
    measure: () => program('acl-lookup'),
  },
  {
    name: 'limiter',
    title: 'The limiter alone',
    about: 'Checks of one, three and six counters, without Haraka.',
    measure: () => program('limiter'),
  },
  {
    name: 'sessions',
    title: 'Whole sessions',
    about:
      'Connect, EHLO, MAIL, one RCPT, DATA, a message of 1 kB, QUIT, from 254 addresses. Sink and load run in processes of their own, rDNS is answered at once, the log stands at `notice`. Limits are out of reach. "× stock" compares with the stock set-up that does the same.',
    measure: sessions,
  },
  {
    name: 'flood',
    title: 'Under flood',
    about: `50 connections at once, as fast as they go, beside a legitimate client with 50 sessions a second from 2,000 addresses and a process of its own. The 5,000 addresses have used up what they may do before. The cost of one refused connection is measured with nothing else going on: of an address that is just over its limit, of one that has tried 5,000 times within the minute, and of the 5,000.`,
    measure: flood,
  },
]

const version = (name: string): string => {
  const { version } = load(`${name}/package.json`) as { version: string }
  return `${name} ${version}`
}

async function machine(): Promise<string> {
  const { stdout } = await run('redis-server', ['--version'])
  const redis = /v=(\S+)/.exec(stdout)?.[1] ?? 'unknown'
  const packages = ['Haraka', 'haraka-plugin-relay', 'haraka-plugin-limit'].map(version).join(', ')
  const memory = Math.round(totalmem() / 2 ** 30)
  return `${cpus()[0]?.model ?? 'unknown CPU'}, ${cpus().length} cores, ${memory} GiB, ${process.platform}; Node.js ${process.version}, Redis ${redis}, ${packages}.`
}

const intro = (where: string): string => `# Benchmarks

Written by \`npm run bench\`; BENCH_ROUNDS and BENCH_SECONDS make it longer (here ${rounds} and ${seconds}).

Machine: ${where}

How to read it: load, sink, Haraka and Redis share the cores, so the absolute numbers are small and vary with the
machine. What counts is the ratio of two set-ups **within one run**: all of a group are up at the same time, take turns in an order
that is shuffled each round, and each ratio is one of the same round. Given are medians, quartiles in brackets. A Haraka
runs as one process (\`nodes=0\`), and its CPU is what \`/proc\` says of it.
`

async function main() {
  const wanted = process.argv.slice(2)
  const chosen = parts.filter(
    ({ name }) => (wanted.length === 0 || wanted.includes(name)) && existsSync(join(__dirname, `${name}.js`)),
  )
  const sections = [intro(await machine())]
  for (const { title, about, measure } of chosen) {
    const section = `## ${title}\n\n${about}\n\n${(await measure()).trim()}\n`
    console.log(section)
    sections.push(section)
  }
  if (wanted.length === 0) writeFileSync(join(root, 'docs', 'benchmarks.md'), sections.join('\n'))
}

// By way of `exit`, where what was started is ended.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
void main()
