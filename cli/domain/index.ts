// relay-guard domain set|show|remove|list: the domains in Redis, read and written by the server's own reader.
import { nearest } from '../../core/ini/nearest'
import { printConfigError } from '../../core/ini/parse'
import { normalDomain } from '../../core/mail-address'
import { isForGood } from '../../core/redis/errors'
import type { ValueError } from '../../core/text'
import { printHashErrors } from '../../plugins/domains/redis/hash'
import { hashesOf } from '../../plugins/domains/redis/look-up'
import type { Call } from '../call'
import { type Configuration, readConfiguration } from '../check/read'
import { harakaAt } from '../haraka-dir'
import { type Domains, withDomains } from './redis'
import { changed, masked, write } from './section'

type Action = (of: {
  domains: Domains
  configuration: Configuration
  call: Call
  name: string
}) => Promise<0 | 1>

const ACTIONS: Record<string, Action> = { set, show, remove, list }

/** 1: the domain is not there, or what is there or is to be written is bad. Throws Error where that cannot be told. */
export async function domain(call: Call): Promise<0 | 1> {
  const [word = '', name, ...rest] = call.words
  const action = Object.hasOwn(ACTIONS, word) ? ACTIONS[word] : undefined
  if (!action) throw new Error(`domain takes set, show, remove or list${meant(word)}`)
  const isList = action === list
  if (isList ? name !== undefined : name === undefined)
    throw new Error(isList ? 'domain list takes no more words' : `domain ${word} needs a NAME`)
  if (action !== set && rest.length > 0) throw new Error(`domain ${word} takes one NAME`)
  if (action === set && rest.length === 0) throw new Error('domain set NAME needs a KEY=VALUE')
  if (action === set) changed({}, rest)
  harakaAt(call.dir)
  const configuration = readConfiguration(call.dir)
  const [error] = configuration.errors.filter(({ file }) =>
    /^(?:config\/)?(?:redis|domains)\.ini$/.test(file),
  )
  if (error) throw new Error(printConfigError(error))
  const { redis, domains } = configuration
  return withDomains(redis, domains.readHash, (each) =>
    action({ domains: each, configuration, call, name: isList ? '' : nameOf(name!) }),
  )
}

const meant = (word: string): string => {
  const near = word && nearest(word, Object.keys(ACTIONS))
  return near ? `; did you mean ${near}?` : ''
}

function nameOf(text: string): string {
  try {
    return normalDomain(text)
  } catch (error) {
    throw new Error((error as ValueError).message)
  }
}

async function set({ domains, configuration, call, name }: Parameters<Action>[0]): Promise<0 | 1> {
  const { json, print, words } = call
  const { client, keys } = domains
  const key = keys.domain(name)
  // What is read here is what is written over, or nothing is.
  await client.watch(key)
  const [before] = await hashesOf(client, [key])
  if (before instanceof Error && !isForGood(before)) throw before
  if (!before || before instanceof Error)
    return refuse(call, name, `${name} is no hash in Redis; remove it first`)
  const after = changed(before, words.slice(2))
  const { domain, errors } = configuration.domains.readHash(name, after)
  if (!domain) return refuse(call, name, printHashErrors(errors))
  await write(client, key, before, after)
  if (json) print(JSON.stringify({ name, keys: masked(after) }))
  else {
    for (const line of sectionOf(name, masked(after))) print(line)
    for (const line of notes(configuration, name)) print(line)
  }
  return 0
}

function refuse({ json, print }: Call, name: string, error: string): 1 {
  print(json ? JSON.stringify({ name, error }) : `error: ${error}`)
  return 1
}

/** What keeps a domain in Redis from being in force. */
function notes({ domains: { domains } }: Configuration, name: string): string[] {
  if (!domains.asksRedis) return ['warning: not in force: domains.ini has redis = false']
  if (domains.all().some((each) => each.name === name))
    return [`warning: not in force: domains.ini has [${name}] itself, which goes before Redis`]
  return ['In force within 5 s.']
}

async function show({ domains, call, name }: Parameters<Action>[0]): Promise<0 | 1> {
  const entry = await domains.get(name)
  if (!entry?.hash) return refuse(call, name, entry?.error ?? `${name} is not in Redis`)
  const keys = masked(entry.hash)
  if (call.json) call.print(JSON.stringify({ name, keys }))
  else for (const line of sectionOf(name, keys)) call.print(line)
  return 0
}

const sectionOf = (name: string, keys: Record<string, string>): string[] => [
  `[${name}]`,
  ...Object.entries(keys).map(([key, value]) => `${key} = ${value}`),
]

async function remove({ domains, call, name }: Parameters<Action>[0]): Promise<0 | 1> {
  const { client, keys } = domains
  if ((await client.del(keys.domain(name))) === 0) return refuse(call, name, `${name} is not in Redis`)
  call.print(call.json ? JSON.stringify({ name, removed: true }) : `${name} is removed; in force within 5 s.`)
  return 0
}

/** A line a domain, as they come: there may be a million. */
async function list({ domains, call: { json, print } }: Parameters<Action>[0]): Promise<0 | 1> {
  let bad = 0
  for await (const { name, hash, domain, error } of domains.all()) {
    if (error !== undefined) bad++
    if (json) print(JSON.stringify(hash ? { name, keys: masked(hash) } : { name, error }))
    else if (domain) print([name, domain.delivery, masked(hash)['next_hop']].filter(Boolean).join(' '))
    else print(`error: ${error}`)
  }
  return bad > 0 ? 1 : 0
}
