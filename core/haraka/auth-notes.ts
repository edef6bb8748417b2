// auth_base's notes of an AUTH dialogue, and who tries to log in with it (RFC 4954 4, RFC 4616, RFC 2195).
import type { Connection } from './types'
import { watchProperty } from './watch-property'

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
export function endAuthDialogue({ notes }: Connection): void {
  notes.authenticating = false
  for (const name of NOTES) delete notes[name]
}

/**
 * Hides a line of the dialogue that may be a password in base64: core logs the first parameter of a hook that ends one.
 * Only for a hook that ends: those after it are given the same array.
 */
export function hideLine(words: string[]): void {
  if (!/^AUTH$/i.test(words[0] ?? '')) words[0] = '(hidden)'
}

const decoded = (text: string | undefined): string => Buffer.from(text ?? '', 'base64').toString('utf8')

const named = (name: string | undefined): string | undefined =>
  name?.replace(/[\x00-\x1f\x7f]/g, '') || undefined

/** The second of the three parts of PLAIN: `authzid NUL authcid NUL password`. */
const plainUser = (text: string): string | undefined => named(decoded(text).split('\0')[1])

/**
 * `words` as Haraka's unrecognized_command hook has them: the command and the rest of the line.
 * Undefined where this line names nobody.
 */
export function attemptedUser({ notes }: Connection, words: string[]): string | undefined {
  const [word = '', rest = ''] = words
  if (word.toUpperCase() === 'AUTH') {
    const [method = '', initial] = rest.trim().split(/\s+/)
    if (!initial) return undefined
    return /^plain$/i.test(method) ? plainUser(initial) : named(decoded(initial))
  }
  if (notes['auth_method'] === 'PLAIN') return plainUser(word)
  if (notes['auth_method'] === 'CRAM-MD5') return named(decoded(word).split(' ')[0])
  const userGiven = notes['auth_login_userlogin']
  return named(typeof userGiven === 'string' ? userGiven : decoded(word))
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
