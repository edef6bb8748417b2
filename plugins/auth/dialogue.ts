// The dialogue of AUTH PLAIN (RFC 4616) and AUTH LOGIN with a client whose password we check, line by line (RFC 4954 4).
import { decodeBase64, isBase64 } from '../../core/sasl'

/** The SASL mechanisms that [users] offers. */
export const MECHANISMS = ['PLAIN', 'LOGIN'] as const
/** One of them. */
export type Mechanism = (typeof MECHANISMS)[number]

/** What is known of a dialogue before the client's next line. */
export interface Dialogue {
  mechanism: Mechanism
  /** LOGIN: the name that was given; the next line is the password. */
  user?: string
}

/** What a client who logs in claims. */
export interface Credentials {
  mechanism: Mechanism
  user: string
  password: string
}

/** What a line leads to: a challenge and a next line, credentials to check, or the reason why it is refused. */
export type Turn =
  | { challenge: string; dialogue: Dialogue }
  | { credentials: Credentials }
  | { malformed: string }

/** `Username:` and `Password:` in base64, as clients expect them. */
const USER_NAME = 'VXNlcm5hbWU6'
const PASSWORD = 'UGFzc3dvcmQ6'

/** The first turn. `initial`: the initial response of the AUTH line, undefined where there is none. */
export function beginDialogue(mechanism: Mechanism, initial: string | undefined): Turn {
  if (initial !== undefined) return nextTurn({ mechanism }, initial)
  return { challenge: mechanism === 'LOGIN' ? USER_NAME : '', dialogue: { mechanism } }
}

/** The turn after one more line of the client. */
export function nextTurn(dialogue: Dialogue, line: string): Turn {
  if (!isBase64(line)) return { malformed: 'Not base64' }
  const text = decodeBase64(line)
  if (dialogue.mechanism === 'PLAIN') return plainTurn(text)
  const { user } = dialogue
  if (user === undefined)
    return text === '' ? NO_NAME : { challenge: PASSWORD, dialogue: { mechanism: 'LOGIN', user: text } }
  return text === '' ? NO_PASSWORD : { credentials: { mechanism: 'LOGIN', user, password: text } }
}

const NO_NAME: Turn = { malformed: 'The user name is missing' }
const NO_PASSWORD: Turn = { malformed: 'The password is missing' }

/** The identity to act as (authzid) is not looked at: a user sends as himself, whatever he asks for. */
function plainTurn(text: string): Turn {
  const [, user, password, ...rest] = text.split('\0')
  if (password === undefined || rest.length > 0) return { malformed: 'Not a message of PLAIN' }
  if (!user) return NO_NAME
  return password === '' ? NO_PASSWORD : { credentials: { mechanism: 'PLAIN', user, password } }
}
