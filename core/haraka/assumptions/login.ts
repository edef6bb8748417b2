// What we rely on in auth_base, which other auth plugins inherit.
import type { HarakaInsides } from '../types'
import type { Assumption } from './presence'
import { tryLogin } from './trials'

const alice = Buffer.from('alice').toString('base64')
/** See `assumptions`. */
export const loginAssumptions: Assumption[] = [
  {
    where: 'plugins/auth/auth_base.js',
    fault: 'AUTH LOGIN does not leave the notes that we read and clear',
    holds: (haraka) => {
      const notes = tryLogin(haraka, 'LOGIN', ['AUTH', 'LOGIN'], [alice])
      return (
        notes.authenticating === true &&
        notes['auth_method'] === 'LOGIN' &&
        notes['auth_login_asked_login'] === true &&
        notes['auth_login_userlogin'] === 'alice'
      )
    },
  },
  ...Object.entries({ PLAIN: 'auth_plain_asked_login', 'CRAM-MD5': 'auth_ticket' }).map(([method, note]) => ({
    where: 'plugins/auth/auth_base.js',
    fault: `AUTH ${method} does not leave the notes that we read and clear`,
    holds: (haraka: HarakaInsides) => Boolean(tryLogin(haraka, method, ['AUTH', method])[note]),
  })),
  {
    where: 'plugins/auth/auth_base.js',
    fault: 'a login does not set the note "auth_user", or keeps the password',
    holds: (haraka) => {
      const words = Buffer.from('\0alice\0secret').toString('base64')
      const notes = tryLogin(haraka, 'PLAIN', ['AUTH', `PLAIN ${words}`])
      return notes.auth_user === 'alice' && notes['auth_passwd'] === undefined
    },
  },
]
