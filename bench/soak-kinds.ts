// The mix of sessions of the soak: who they are and what they say.

/** A kind of session: how many of a hundred, who connects, and what it says after the greeting. */
export interface Kind {
  share: number
  network: string
  addresses: number
  /** Open at once at most: what waits for a next hop must not keep all others out. */
  open: number
  /** Its message has a number, and its last command but one is the message. */
  mails?: boolean
  pair?: boolean
  says: (id: number) => string[]
}

const message = (id: number) =>
  `From: a@client.example\r\nSubject: soak\r\nX-Soak: ${id}\r\n\r\n${'The quick brown fox jumps over it.\r\n'.repeat(25)}.\r\n`

const domainOf = (id: number) => `c${id % 1000}.client.example`
const ehlo = 'EHLO client.example\r\n'
const login = (user: string, password: string) =>
  `AUTH PLAIN ${Buffer.from(`\0${user}\0${password}`).toString('base64')}\r\n`
const mail = (from: string, to: string[]) => [
  `MAIL FROM:<${from}>\r\n`,
  ...to.map((path) => `RCPT TO:<${path}>\r\n`),
]
const whole = (id: number, to: string[], from = `s@${domainOf(id)}`) => [
  ...mail(from, to),
  'DATA\r\n',
  message(id),
  'QUIT\r\n',
]

/** Few enough that all have come within the first minutes: what is kept of each client is there from then on. */
const senders = { network: '127.21', addresses: 1000 }
/** The mix, by what each is called in the tables. */
export const kinds: Record<string, Kind> = {
  'message, forward': {
    share: 20,
    ...senders,
    open: 150,
    mails: true,
    says: (id) => [ehlo, ...whole(id, ['anna@forward.test'])],
  },
  'message, queue': {
    share: 5,
    ...senders,
    open: 100,
    mails: true,
    says: (id) => [ehlo, ...whole(id, ['anna@queue.test'])],
  },
  'message, LMTP': {
    share: 5,
    ...senders,
    open: 100,
    mails: true,
    says: (id) => [ehlo, ...whole(id, ['anna@lmtp.test'])],
  },
  'message, LMTP, one of two refused after it': {
    share: 2,
    ...senders,
    open: 50,
    mails: true,
    pair: true,
    says: (id) => [ehlo, ...whole(id, ['anna@lmtp.test', 'off@lmtp.test'])],
  },
  'message of a user, to the outside': {
    share: 5,
    network: '127.30',
    addresses: 500,
    open: 100,
    mails: true,
    says: (id) => [
      ehlo,
      login(`user${id % 50}`, 'secret'),
      ...whole(id, ['friend@elsewhere.example'], `user${id % 50}@forward.test`),
    ],
  },
  'wrong password': {
    share: 3,
    network: '127.80',
    addresses: 1000,
    open: 100,
    says: (id) => [ehlo, login(`boss${id % 1000}`, 'guess'), 'QUIT\r\n'],
  },
  'unknown recipient': {
    share: 12,
    network: '127.40',
    addresses: 2000,
    open: 100,
    says: (id) => [ehlo, ...mail(`s@${domainOf(id)}`, ['nobody@forward.test']), 'QUIT\r\n'],
  },
  'relay attempt': {
    share: 12,
    network: '127.50',
    addresses: 2000,
    open: 100,
    says: (id) => [ehlo, ...mail(`s@${domainOf(id)}`, ['victim@victim.example']), 'QUIT\r\n'],
  },
  'flood, in [reject]': { share: 18, network: '127.66', addresses: 500, open: 150, says: () => ['QUIT\r\n'] },
  'flood, over its limit': {
    share: 18,
    network: '127.70',
    addresses: 5,
    open: 150,
    says: () => ['QUIT\r\n'],
  },
}
/** The names of a hundred sessions, each as often as its share. */
export const hundred = Object.entries(kinds).flatMap(([name, { share }]) =>
  Array.from({ length: share }, () => name),
)
/** In place of a kind of which as many are open as may be. */
export const OVERFLOW = 'flood, in [reject]'
