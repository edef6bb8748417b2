// The AUTH dialogue as Haraka's auth plugins lead it (RFC 4954 4): what a line of the client says, by the notes of
// auth_base, and what comes of a login, for which Haraka has no hook.
import type { LoginOutcome } from '../registry'
import { decodeBase64, readMessage, type SaslMessage, userName } from '../sasl'
import type { Connection } from './types'
import { watchProperty } from './watch-property'

/** auth_base's notes of a dialogue, and ours of the one over [users]. */
const NOTES = [
  'auth_method',
  'auth_ticket',
  'auth_login_asked_login',
  'auth_login_userlogin',
  'auth_plain_asked_login',
  'relay_guard_dialogue',
]

/**
 * Ends a dialogue. Left there, the notes would take the next base64 line for a part of it, also inside a transaction,
 * and the next AUTH for a violation of the protocol.
 */
export function endAuthDialogue(connection: Connection): void {
  const { notes } = connection
  notes.authenticating = false
  for (const name of NOTES) if (name in notes) delete notes[name]
  mechanisms.delete(connection)
}

/**
 * Hides a line of the dialogue that may be a password in base64: core logs the first parameter of a hook that ends one.
 * Only for a hook that ends: those after it are given the same array.
 */
export function hideLine(words: string[]): void {
  if (!beginsAuth(words)) words[0] = '(hidden)'
}

/** The mechanism that each client has asked for last: not every plugin keeps it in a note, as auth_base does. */
const mechanisms = new WeakMap<Connection, string>()

/** A line of an AUTH dialogue. */
export interface AuthLine extends SaslMessage {
  /** The AUTH command itself. */
  begins: boolean
  /** In capitals, as the client named it. */
  mechanism: string
  /** AUTH LOGIN with an empty name: auth_base would ask for the password, and then take that for the name. */
  nameless?: boolean
}

/** A bare AUTH is none: inside a dialogue it is base64 like any other line. */
const beginsAuth = ([word = '', rest = '']: string[]): boolean => /^AUTH$/i.test(word) && rest !== ''

/**
 * Reads a line before a plugin does. `words` as Haraka's unrecognized_command hook has them: the command and the rest
 * of the line. Undefined where it belongs to no dialogue.
 */
export function readAuthLine(connection: Connection, words: string[]): AuthLine | undefined {
  const { notes } = connection
  const begins = beginsAuth(words)
  if (begins && notes.authenticating !== true) {
    const [name = '', initial] = (words[1] ?? '').split(/\s+/)
    const mechanism = name.toUpperCase()
    mechanisms.set(connection, mechanism)
    return { begins, mechanism, ...readLine(mechanism, initial, undefined) }
  }
  const mechanism = notes['auth_method'] ?? mechanisms.get(connection)
  if (typeof mechanism !== 'string' || (!notes.authenticating && isOfAuthBase(mechanism))) return undefined
  return { begins: false, mechanism, ...readLine(mechanism, words[0], notes['auth_login_userlogin']) }
}

/** Who speaks these has the note `authenticating` as long as a dialogue goes on; other plugins may have none. */
const isOfAuthBase = (mechanism: string): boolean => /^(?:PLAIN|LOGIN|CRAM-MD5)$/.test(mechanism)

/** `userGiven`: the note of auth_base, after LOGIN was told a name. */
function readLine(
  mechanism: string,
  line: string | undefined,
  userGiven: unknown,
): Omit<AuthLine, 'begins' | 'mechanism'> {
  // CRAM-MD5 begins with the server's challenge: what a client says before it is not looked at.
  if (line === undefined || line === '*') return { proves: false }
  const text = decodeBase64(line)
  if (mechanism !== 'LOGIN') return readMessage(mechanism, text)
  const isPassword = typeof userGiven === 'string' && userGiven !== ''
  if (!isPassword && text === '') return { proves: false, nameless: true }
  const user = userName(isPassword ? userGiven : text)
  return { proves: isPassword && text !== '', ...(user !== undefined && { user }) }
}

/**
 * Tells each time that a login failed or succeeded. Haraka has no hook for either; its auth plugins write these notes,
 * the first one before they answer.
 */
export function watchLogins(
  { notes }: Connection,
  failed: () => void,
  succeeded: (user: string) => void,
): void {
  watchProperty(notes, 'auth_fails', (before, now) => {
    if (Number(now) > Number(before ?? 0)) failed()
  })
  watchProperty(notes, 'auth_user', (_before, now) => {
    if (typeof now === 'string' && now !== '') succeeded(now)
  })
}

/** Calls `replied` with the code of each reply to this client, before it is sent, until that returns true. */
export function watchReplies(connection: Connection, replied: (code: number) => boolean): void {
  const before = Object.getOwnPropertyDescriptor(connection, 'respond')
  const { respond } = connection
  connection.respond = (code, message, done) => {
    const isOver = replied(
      message instanceof Object && message.constructor.name === 'DSN' ? codeOf(message) : code,
    )
    if (isOver && before) Object.defineProperty(connection, 'respond', before)
    else if (isOver) Reflect.deleteProperty(connection, 'respond')
    return respond.call(connection, code, message, done)
  }
}

const codeOf = (dsn: object): number => ('code' in dsn ? Number(dsn.code) : 0)

/** What the reply to a password says of it (RFC 4954 6). */
export function outcomeOf(mechanism: string, code: number): LoginOutcome {
  if (code === 235) return 'right'
  // Why the token was refused; the client says that it has read it, and is refused then (RFC 7628 3.2.3).
  if (code === 334 && /^(?:XOAUTH2|OAUTHBEARER)$/.test(mechanism)) return 'wrong'
  return code < 500 || LOOKED_AT_NONE.includes(code) ? 'cannot tell' : 'wrong'
}

/** Syntax, sequence, mechanism, TLS: no password was looked at. */
const LOOKED_AT_NONE = [500, 501, 502, 503, 504, 521, 538]
