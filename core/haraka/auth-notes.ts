// auth_base's notes of an AUTH dialogue.
import type { Connection } from './types'

const NOTES = [
  'auth_method',
  'auth_ticket',
  'auth_login_asked_login',
  'auth_login_userlogin',
  'auth_plain_asked_login',
]

/**
 * Ends a dialogue. Left there, the notes would take the next base64 line for a part of it, also inside a transaction,
 * and the next AUTH for a violation of the protocol.
 */
export function endAuthDialogue({ notes }: Connection): void {
  notes.authenticating = false
  for (const name of NOTES) delete notes[name]
}
