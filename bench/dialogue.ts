// One SMTP session as a client, on a bare socket, with the time that each answer took.
import { connect } from 'node:net'

export const phases = ['greeting', 'ehlo', 'mail', 'rcpt', 'data', 'dot', 'session'] as const
export type Phase = (typeof phases)[number]

export interface Ended {
  /** Refused: the first answer of 4xx or 5xx ended it. Failed: no answer, or no connection. */
  outcome: 'mailed' | 'refused' | 'failed'
  /** Milliseconds from a command to its answer; `session`: from connecting to the close. */
  times: Partial<Record<Phase, number>>
}

export interface Client {
  port: number
  /** The client's address, in 127/8. */
  from: string
  sender: string
  recipient: string
}

const DEADLINE = 20_000

const body = [
  'From: Ann <ann@client.example>',
  'To: Bob <bob@local.test>',
  'Subject: a message of one kilobyte',
  'Message-ID: <1@client.example>',
  '',
  ...Array.from(
    { length: 12 },
    () => 'The quick brown fox jumps over the lazy dog, and so on and on, until the end.',
  ),
  '.',
  '',
].join('\r\n')

/** Greets, sends one message to one recipient and leaves. Never rejects. */
export function converse({ port, from, sender, recipient }: Client): Promise<Ended> {
  const said = [
    'EHLO client.example\r\n',
    `MAIL FROM:<${sender}>\r\n`,
    `RCPT TO:<${recipient}>\r\n`,
    'DATA\r\n',
    body,
    'QUIT\r\n',
  ]
  return new Promise((resolve) => {
    const start = performance.now()
    const ended: Ended = { outcome: 'failed', times: {} }
    let asked = start
    let step = 0
    let heard = ''
    const socket = connect({ port, host: '127.0.0.1', localAddress: from })
    socket.setNoDelay(true)
    socket.setTimeout(DEADLINE, () => socket.destroy())
    socket.on('error', () => {})
    socket.on('close', () => {
      ended.times.session = performance.now() - start
      resolve(ended)
    })
    socket.on('data', (chunk) => {
      heard += chunk.toString('latin1')
      const lastLine = heard.lastIndexOf('\n', heard.length - 2) + 1
      if (!heard.endsWith('\n') || heard[lastLine + 3] === '-') return
      const refused = heard.charCodeAt(lastLine) >= 0x34
      heard = ''
      const phase = phases[step]
      if (phase !== undefined && phase !== 'session') ended.times[phase] = performance.now() - asked
      if (refused) ended.outcome = 'refused'
      else if (phase === 'dot') ended.outcome = 'mailed'
      const next = refused ? undefined : said[step++]
      if (next === undefined) return void socket.end()
      asked = performance.now()
      socket.write(next)
    })
  })
}
