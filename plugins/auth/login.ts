// AUTH with the passwords of [users]: the dialogue at a real connection, and what comes of a login.
import { setTimeout as sleep } from 'node:timers/promises'
import { endAuthDialogue, hideLine } from '../../core/haraka/auth-notes'
import { answer, guarded } from '../../core/haraka/reply'
import type { Connection, Next, Plugin } from '../../core/haraka/types'
import { formatIp, networkOf, parseIp } from '../../core/net/ip'
import { registry } from '../../core/registry'
import { userName } from '../../core/sasl'
import { beginDialogue, type Credentials, type Dialogue, MECHANISMS, nextTurn, type Turn } from './dialogue'
import { namesOf } from './identity'
import { isSameHash, type PasswordHash, verify } from './passwords'
import { CANNOT_TELL, FAILED, malformed } from './policy'
import { FairQueue } from './queue'
import { realm, runtime } from './runtime'

/** Of libuv's four threads, so that DNS and files go on. */
const queue = new FairQueue(2)

/** The note that keeps our dialogue, beside those of auth_base, by which other plugins know that one is going on. */
const DIALOGUE = 'relay_guard_dialogue'

/** Speaks the dialogue of [users]: other auth plugins speak for themselves. */
export const check_login = guarded(function (this, next, connection, params: string[]) {
  const turn = turnOf(connection, params)
  if (!turn) return next()
  endAuthDialogue(connection)
  if ('malformed' in turn) return answer(this, next, connection, malformed(turn.malformed))
  if ('credentials' in turn) return login(this, next, connection, turn.credentials)
  keepDialogue(connection, turn.dialogue)
  connection.respond(334, turn.challenge, () => next(OK))
})

/** What this line leads to; undefined where it belongs to no dialogue of ours. */
function turnOf({ notes }: Connection, params: string[]): Turn | undefined {
  const [word = '', rest = ''] = params
  const open = notes.authenticating ? (notes[DIALOGUE] as Dialogue | undefined) : undefined
  if (open) {
    hideLine(params)
    return nextTurn(open, rest ? `${word} ${rest}` : word)
  }
  if (!/^AUTH$/i.test(word) || notes.authenticating || runtime.auth.value.users.size === 0) return undefined
  const [name = '', initial] = rest.split(/\s+/)
  const mechanism = MECHANISMS.find((each) => each === name.toUpperCase())
  return mechanism && beginDialogue(mechanism, initial || undefined)
}

function keepDialogue({ notes }: Connection, dialogue: Dialogue): void {
  notes.authenticating = true
  notes['auth_method'] = dialogue.mechanism
  if (dialogue.user !== undefined) notes['auth_login_userlogin'] = dialogue.user
  notes[DIALOGUE] = dialogue
}

interface Login {
  /** As in [users]. */
  name: string
  hash: PasswordHash
  /** Of auth.ini, when it was last found to hold. */
  generation: number
  /** Of the connection: XCLIENT makes it another client's. */
  uuid: string
}

const logins = new WeakMap<Connection, Login>()
const waiting = new WeakMap<Connection, AbortController>()

/** Checks a password, tells limits what came of it, and answers. */
async function login(
  plugin: Plugin,
  next: Next,
  connection: Connection,
  { mechanism, user, password }: Credentials,
): Promise<void> {
  const began = performance.now()
  const { value: config, generation } = runtime.auth
  const name = namesOf(user, realm()).find((each) => config.users.has(each))
  const hash = name === undefined ? undefined : config.users.get(name)
  const shown = userName(user)
  const about: Record<string, string> = shown === undefined ? {} : { user: shown }
  let isRight: boolean
  try {
    isRight = await inTurn(plugin, connection, () => verify(password, hash ?? config.decoy))
  } catch (error) {
    registry.loginOutcome?.(connection, 'cannot tell')
    answer(plugin, next, connection, { ...CANNOT_TELL, detail: (error as Error).message }, about)
    return
  }
  if (isRight && name !== undefined && hash) {
    logins.set(connection, { name, hash, generation, uuid: connection.uuid })
    grant(plugin, next, connection, mechanism, user)
    return
  }
  registry.loginOutcome?.(connection, 'wrong')
  connection.results.add({ name: 'auth' }, { fail: `${plugin.name}/${mechanism}` })
  connection.auth_results(`auth=fail (${mechanism.toLowerCase()})${shown ? ` smtp.auth=${shown}` : ''}`)
  await sleep(delayOf(connection, timeoutOf(plugin) - (performance.now() - began)), undefined, { ref: false })
  answer(plugin, next, connection, FAILED, about)
}

/** A password check in its turn. Rejects where it does not come before Haraka would give up the hook, or the client is gone. */
async function inTurn(plugin: Plugin, connection: Connection, check: () => Promise<boolean>) {
  const patience = new AbortController()
  const giveUp = () => patience.abort(new Error('too many logins at once'))
  const timer = setTimeout(giveUp, Math.max(timeoutOf(plugin) - RESERVE, timeoutOf(plugin) / 2))
  waiting.set(connection, patience)
  const preferred = registry.isKnownNetwork?.(connection) ?? false
  const group = networkNameOf(connection.remote.ip)
  try {
    return await queue.run({ group, preferred, signal: patience.signal }, check)
  } finally {
    clearTimeout(timer)
    waiting.delete(connection)
  }
}

/** Clients of one /24 or /48 share their turns. */
function networkNameOf(ip: string): string {
  const address = parseIp(ip)
  return address ? formatIp(networkOf(address, address.length === 1 ? 24 : 48)) : ip
}

/** Kept of Haraka's time for a hook, ms: for the check itself and for the delay of a refusal. */
const RESERVE = 5000

/** Haraka's time for a hook, ms. */
const timeoutOf = ({ timeout }: Plugin): number => (timeout || 30) * 1000

/** As auth_base does it: each wrong password on a connection takes twice as long to be refused. `left`: ms. */
function delayOf({ notes }: Connection, left: number): number {
  notes.auth_fails = (notes.auth_fails ?? 0) + 1
  return Math.max(0, Math.min(1000 * 2 ** (notes.auth_fails - 1), left - 1000))
}

/** All that auth_base tells the other plugins of a login. */
function grant(plugin: Plugin, next: Next, connection: Connection, method: string, user: string): void {
  registry.loginOutcome?.(connection, 'right')
  connection.relaying = true
  connection.results.add({ name: 'relay' }, { pass: plugin.name })
  connection.results.add({ name: 'auth' }, { pass: plugin.name, method, user })
  connection.respond(235, '2.7.0 Authentication successful', () => {
    connection.authheader = '(authenticated bits=0)\n'
    connection.auth_results(`auth=pass (${method.toLowerCase()})`)
    connection.notes.auth_user = user
    next(OK)
  })
}

/** A client that has left waits for nothing. */
export function give_up(this: Plugin, next: Next, connection: Connection): void {
  waiting.get(connection)?.abort(new Error('the client has left'))
  next()
}

/** False where the login was by [users], and the file in force no longer has that name with that password. */
export function loginHolds(connection: Connection): boolean {
  const login = logins.get(connection)
  const { generation, value } = runtime.auth
  if (!login || login.generation === generation || login.uuid !== connection.uuid) return true
  const hash = value.users.get(login.name)
  login.generation = generation
  if (hash && isSameHash(hash, login.hash)) return true
  logins.delete(connection)
  connection.lognotice(
    `relay-guard: the login of ${login.name} has ended: it is no longer in auth.ini [users]`,
  )
  return false
}
