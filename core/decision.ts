// A decision as a value: what a policy says, before anybody replies.

/** Which line of which file decided. Prints as `acl.ini [never] 198.51.100.0/24`. */
export interface Rule {
  file: string
  section: string
  key: string
}

export interface Decision {
  /** The name in statistics and the log stream, e.g. `recipient.relay-denied`. */
  outcome: string
  /** The basic reply code (RFC 5321 4.2): 2xx accepts, 4xx asks to come back, 5xx refuses. */
  code: number
  /** The enhanced status code (RFC 3463). */
  status: string
  /** One line that says why. What comes from outside is cleaned when it is spoken. */
  text: string
  rule: Rule
  /** For the log only: what the client need not know. */
  detail?: string
  /** Close the connection after the reply. */
  close?: boolean
  /** Said to the same client a moment ago, and perhaps a thousand times: not each is worth a line in the log. */
  again?: boolean
}

export const printRule = ({ file, section, key }: Rule): string => `${file} [${section}]${key && ` ${key}`}`

/** A decision as it was given to the client: what statistics and the log stream keep. */
export interface DecisionRecord {
  /** Unix ms. */
  time: number
  plugin: string
  accepted: boolean
  id: string
  outcome: string
  rule: string
  ip: string
  user?: string
  from?: string
  to?: string
  /** Whom it is counted for; without it, the ip. */
  subject?: string
  reply?: string
}

/** What an error of our own becomes: never a refusal for good, never a right (451 4.3.0). */
export const ownFailure = (plugin: { name: string }): Decision => ({
  outcome: 'error',
  code: 451,
  status: '4.3.0',
  text: 'Local problem, try again later',
  rule: { file: plugin.name, section: 'error', key: '' },
})
