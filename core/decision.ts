// A decision as a value: what a policy says, before anybody replies.

/** Which line of which file decided. Prints as `acl.ini [never] 198.51.100.0/24`. */
export interface Rule {
  file: string
  section: string
  key: string
}

/** What a policy decided about a client, a sender, a recipient or a message. */
export interface Decision {
  /** The name in statistics and the log stream, e.g. `recipient.relay-denied`. */
  outcome: string
  /** The basic reply code (RFC 5321 4.2): 2xx accepts, 4xx asks to come back, 5xx refuses. */
  code: number
  /** The enhanced status code (RFC 3463). */
  status: string
  /** One line that says why. What comes from outside is cleaned when the reply is made. */
  text: string
  rule: Rule
  /** For the log only: what the client need not know. */
  detail?: string
  /** Close the connection after the reply. */
  close?: boolean
  /** The same refusal as a moment ago, perhaps for the thousandth time: only some of these get a line in the log. */
  again?: boolean
}

/** `acl.ini [never] 198.51.100.0/24`, as it stands in the log. */
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

/** The decision after a failure of our own: 451 4.3.0, never a refusal for good and never a right. */
export const ownFailure = (plugin: { name: string }): Decision => ({
  outcome: 'error',
  code: 451,
  status: '4.3.0',
  text: 'Local problem, try again later',
  rule: { file: plugin.name, section: 'error', key: '' },
})
