// All benchmarks in one run: prints tables and writes docs/benchmarks.md. With names of parts: only those, only printed.
import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { root } from '../test/support/install'
import { parts, rounds, seconds } from './parts'
import { FULL_MINUTES, soakMinutes } from './soak'

const run = promisify(execFile)
const file = join(root, 'docs', 'benchmarks.md')
const load = createRequire(__filename)

const version = (name: string): string => {
  const { version } = load(`${name}/package.json`) as { version: string }
  return `${name} ${version}`
}

/** What a program answers, or the empty text where it is not installed. */
const said = async (command: string, ...args: string[]): Promise<string> =>
  run(command, args).then(
    ({ stdout }) => stdout.trim(),
    () => '',
  )

async function machine(): Promise<string> {
  const redis = /v=(\S+)/.exec(await said('redis-server', '--version'))?.[1] ?? 'unknown'
  const postfix = await said('postconf', '-dh', 'mail_version')
  const packages = ['Haraka', 'haraka-plugin-relay', 'haraka-plugin-limit'].map(version).join(', ')
  const memory = Math.round(totalmem() / 2 ** 30)
  return `${cpus()[0]?.model ?? 'unknown CPU'}, ${cpus().length} cores, ${memory} GiB, ${process.platform}; Node.js ${process.version}, Redis ${redis}, ${packages}${postfix && `, Postfix ${postfix}`}.`
}

const intro = (where: string): string => `# Benchmarks

Written by \`npm run bench\`; BENCH_ROUNDS and BENCH_SECONDS make it longer (here ${rounds} and ${seconds}).

Machine: ${where}

How to read it: load, sink, servers and Redis share the cores, so the absolute numbers are small and vary with the
machine. What counts is the ratio of two set-ups **within one run**: all of a group are up at the same time, take turns in an order
that is shuffled each round, and each ratio is one of the same round. Given are medians, quartiles in brackets. Where nothing
else is said a Haraka runs as one process (\`nodes=0\`). CPU is what \`/proc\` says of a server with all its processes.
`

/** All that this package lost, from the figures of this run. */
const losses = (worse: string[]): string => `## What was worse

Every comparison below that this package lost in at least three of four rounds by more than 2 % or 0.05 ms, as the
figures of this run have it${worse.length ? ':' : ': none.'}

${worse.map((line) => `- ${line}\n`).join('')}`

/** The section with this title; undefined where there is none. */
const sectionOf = (document: string, title: string): string | undefined =>
  document.split(/^(?=## )/m).find((part) => part.startsWith(`## ${title}\n`))

/** The document with this section in place of the one with its title, or behind all others. */
function withSection(document: string, title: string, section: string): string {
  const before = sectionOf(document, title)
  return before === undefined ? `${document}\n${section}` : document.replace(before, () => section)
}

async function main() {
  const wanted = process.argv.slice(2)
  const chosen = parts.filter(({ name, onDemand }) =>
    wanted.length === 0 ? !onDemand : wanted.includes(name),
  )
  const sections: string[] = []
  const worse: string[] = []
  const written = readFileSync(file, 'utf8')
  for (const { title, about, measure, onDemand } of chosen) {
    const measured = await measure()
    const section = `## ${title}\n\n${about}\n\n${measured.text.trim()}\n`
    console.log(section)
    sections.push(section)
    if (onDemand && soakMinutes >= FULL_MINUTES) writeFileSync(file, withSection(written, title, section))
    worse.push(...measured.worse)
  }
  if (chosen.some(({ onDemand }) => !onDemand)) console.log(losses(worse))
  if (wanted.length > 0) return
  const kept = parts.flatMap(({ title, onDemand }) => (onDemand && sectionOf(written, title)) || [])
  const document = [intro(await machine()), losses(worse), ...sections, ...kept]
  writeFileSync(file, document.join('\n'))
}

// By way of `exit`, where what was started is ended.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
void main()
