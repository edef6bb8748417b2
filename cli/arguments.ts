// What stands behind `relay-guard`: read into a request, or refused by the word that is wrong.
import { parseArgs } from 'node:util'
import { nearest } from '../core/ini/nearest'

/** What a verb takes after its name, e.g. `['NAME']`, and what it does, for the usage. */
export interface VerbUsage {
  words: string[]
  /** What may follow these words, which the verb itself reads, e.g. `[NAME]`. */
  rest?: string
  does: string
}

/** What the command line asks for. */
export interface Request {
  verb: string
  /** Haraka's directory. */
  dir: string
  json: boolean
  words: string[]
}

const OPTIONS = {
  config: { type: 'string', short: 'c' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean', short: 'v' },
} as const

/** Whether errors are wanted in JSON, also of arguments that cannot be read, as `--json=true`. */
export const wantsJson = (argv: string[]): boolean => argv.some((word) => /^--json(?:=|$)/.test(word))

/**
 * Reads the arguments. The verb is `help` or `version` where the option of that name is given, and '' where there is no
 * verb. Throws Error with a sentence that names the word that is wrong, and the nearest one that is right.
 */
export function readArguments(argv: string[], verbs: Record<string, VerbUsage>): Request {
  const { tokens } = parseArgs({ args: argv, options: OPTIONS, strict: false, tokens: true })
  const request: Request = { verb: '', dir: '.', json: false, words: [] }
  const words: string[] = []
  for (const token of tokens) {
    if (token.kind === 'positional') words.push(token.value)
    if (token.kind !== 'option') continue
    const { name, rawName, value } = token
    if (!Object.hasOwn(OPTIONS, name)) throw new Error(`there is no option ${rawName}${meant(rawName)}`)
    if (name === 'config') {
      if (!value) throw new Error(`${rawName} needs a directory: ${rawName} DIR`)
      request.dir = value
    } else if (value !== undefined) throw new Error(`${rawName} takes no value, but has "${value}"`)
    if (name === 'json') request.json = true
    if (name === 'help' || name === 'version') request.verb ||= name
  }
  if (request.verb) return request
  const [verb = '', ...rest] = words
  return { ...request, verb: knownVerb(verb, verbs), words: checked(verb, rest, verbs) }
}

/** Long options only: a single letter is near to every other one. */
function meant(option: string): string {
  const near = nearest(
    option.replace(/^-+/, ''),
    Object.keys(OPTIONS).filter((name) => name !== 'config'),
  )
  return near && option.startsWith('--') ? `; did you mean --${near}?` : '; known are -c DIR and --json'
}

function knownVerb(verb: string, verbs: Record<string, VerbUsage>): string {
  if (verb === '' || Object.hasOwn(verbs, verb)) return verb
  const names = Object.keys(verbs)
  const near = nearest(verb, names)
  throw new Error(
    `there is no "${verb}"; ${near ? `did you mean ${near}?` : `known are ${names.join(', ')}`}`,
  )
}

function checked(verb: string, words: string[], verbs: Record<string, VerbUsage>): string[] {
  const wanted = verb ? (verbs[verb]?.words ?? []) : []
  const rest = verb ? verbs[verb]?.rest : undefined
  const call = [verb, ...wanted, rest].filter(Boolean).join(' ')
  const missing = wanted[words.length]
  if (missing) throw new Error(`${verb} needs a ${missing}: ${call}`)
  const extra = words[wanted.length]
  if (extra !== undefined && !rest) throw new Error(`"${extra}" is a word too many: ${call}`)
  return words
}
