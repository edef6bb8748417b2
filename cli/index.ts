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

let unwritten = false

// Whoever reads, as `head` does, may stop: the verb still ends, with its own exit status. Where the answer cannot be
// written, as on a full disk, the verb ends, too, but nobody must take its status for the answer.
function onUnwritten(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE' || unwritten) return
  unwritten = true
  process.exitCode = 2
  console.error(`relay-guard: the answer cannot be written: ${error.message}`)
}

for (const stream of [process.stdout, process.stderr]) stream.on('error', onUnwritten)

main(process.argv.slice(2)).then((status) => {
  process.exitCode = unwritten ? 2 : status
}, fail)
