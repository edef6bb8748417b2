#!/usr/bin/env node
// relay-guard VERB: what an operator does with the bundle from a shell. See docs/command.md.
import { parseArgs } from 'node:util'
import type { Call } from './call'
import { check } from './check'
import { install } from './install'
import { passwd } from './passwd'

/** Exit status: 0 fine, 1 the answer is bad; what throws could not run, 2. */
type Verb = (call: Call) => Promise<0 | 1>

const VERBS: Record<string, Verb> = { install, check, passwd }

const USAGE = `usage: relay-guard [-c DIR] [--json] VERB

  install       puts missing ini files into config/relay-guard/ and shows the plugin lines
  check         validates the ini files and config/plugins, and reaches each next hop
  passwd NAME   makes a line for [users] in auth.ini

  -c DIR        Haraka's directory (default: this one)
  --json        for programs
`

async function main(): Promise<number> {
  // haraka-net-utils says there what it has loaded.
  console.log = console.error
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      config: { type: 'string', short: 'c', default: '.' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  const [name = '', ...words] = positionals
  const verb = Object.hasOwn(VERBS, name) ? VERBS[name] : undefined
  if (values.help || !verb) {
    process[values.help ? 'stdout' : 'stderr'].write(USAGE)
    return values.help ? 0 : 2
  }
  return verb({
    dir: values.config,
    json: values.json,
    words,
    print: (line) => void process.stdout.write(`${line}\n`),
  })
}

main().then(
  (status) => {
    process.exitCode = status
  },
  (error: Error) => {
    console.error(`relay-guard: ${error.message}`)
    process.exitCode = 2
  },
)
