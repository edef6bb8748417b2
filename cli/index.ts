#!/usr/bin/env node
// relay-guard VERB: what an operator does with the bundle from a shell. See docs/command.md.
import { type Request, readArguments, wantsJson } from './arguments'
import { usage, VERBS } from './verbs'

const print = (line: string): void => void process.stdout.write(`${line}\n`)

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
