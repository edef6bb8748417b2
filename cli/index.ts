#!/usr/bin/env node
// relay-guard VERB: what an operator does with the bundle from a shell. See docs/command.md.
import { packageVersion } from '../core/paths'
import { type Request, readArguments, type VerbUsage, wantsJson } from './arguments'
import type { Call } from './call'
import { check } from './check'
import { install } from './install'
import { passwd } from './passwd'

/** Exit status: 0 fine, 1 the answer is bad; what throws could not run, 2. */
type Verb = VerbUsage & { run(call: Call): Promise<0 | 1> }

const print = (line: string): void => void process.stdout.write(`${line}\n`)

const VERBS: Record<string, Verb> = {
  install: {
    words: [],
    does: 'puts missing ini files into config/relay-guard/ and shows the plugin lines',
    run: install,
  },
  check: {
    words: [],
    does: 'validates the ini files and config/plugins, and reaches each next hop',
    run: check,
  },
  passwd: { words: ['NAME'], does: 'makes a line for [users] in auth.ini', run: passwd },
  help: { words: [], does: 'shows this', run: () => say(usage()) },
  version: { words: [], does: 'shows the version', run: () => say(packageVersion()) },
}

async function say(text: string): Promise<0> {
  print(text)
  return 0
}

const usage = (): string => `usage: relay-guard [-c DIR] [--json] VERB

${Object.entries(VERBS)
  .map(([name, { words, does }]) => `  ${[name, ...words].join(' ').padEnd(13)} ${does}`)
  .join('\n')}

  -c DIR        Haraka's directory (default: this one)
  --json        for programs`

async function main(argv: string[]): Promise<number> {
  // What packages of Haraka say while they load (haraka-tld counts its files) is no answer of ours.
  console.log = () => undefined
  const request: Request = readArguments(argv, VERBS)
  const verb = VERBS[request.verb]
  if (verb) return verb.run({ ...request, print })
  if (wantsJson(argv)) throw new Error('a verb is missing; relay-guard help shows all')
  console.error(usage())
  return 2
}

function fail(error: Error): void {
  if (wantsJson(process.argv)) print(JSON.stringify({ error: error.message }))
  else console.error(`relay-guard: ${error.message}`)
  process.exitCode = 2
}

// Whoever reads, as `head` does, may stop: the verb still ends, with its own exit status.
for (const stream of [process.stdout, process.stderr])
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
  })

main(process.argv.slice(2)).then((status) => {
  process.exitCode = status
}, fail)
