// A next hop that answers any step with anything, drops anywhere and restarts, by the dice. Each answer names the
// transaction that caused it, so that one that reaches another client is seen.
import { pick } from './random'
import { type Response, type Sink, type SinkOptions, type SinkSession, type Stage, startSink } from './sink'

export interface ScriptedHop {
  address: string
  /** What arrived: sender, recipients and text of each message, also of those that nobody heard of. */
  arrived: { from: string; to: string[]; text: string }[]
  /** The senders that got a reply too many: what they are told may be an answer to something else of theirs. */
  confused: Set<string>
  restart(): Promise<void>
  close(): Promise<void>
}

/** How often a step goes wrong. */
const TROUBLE = 0.08

const FAULTS: Record<Stage, string[]> = {
  greeting: [
    '554 5.7.1 No',
    '421 4.3.2 Closing',
    '421 4.7.0 Too many connections',
    '250 odd',
    'garbage',
    'drop',
    'hang',
  ],
  ehlo: ['502 5.5.1 What', '421 4.3.2 Closing', '354 odd', 'garbage', 'drop'],
  starttls: [],
  auth: [],
  mail: [
    '450 4.7.1 Later',
    '550 5.7.1 Never',
    '552 5.3.4 Big',
    '421 4.3.2 Closing',
    '354 odd',
    'garbage',
    'drop',
    'hang',
    'twice',
  ],
  rcpt: [
    '450 4.2.1 Later',
    '550 5.1.1 Nobody',
    '552 Many',
    '421 4.3.2 Closing',
    '334 odd',
    'garbage',
    'drop',
    'hang',
    'twice',
  ],
  data: ['451 4.3.0 Later', '554 5.6.0 Never', '250 odd', '421 4.3.2 Closing', '334 odd', 'garbage', 'drop'],
  dot: [
    '451 4.3.0 Later',
    '554 5.6.0 Never',
    '350 odd',
    '421 4.3.2 Closing',
    'garbage',
    'drop',
    'taken, then drop',
  ],
  rset: ['500 5.5.1 What', '421 4.3.2 Closing', '354 odd', 'garbage', 'drop'],
  quit: ['drop', '500 5.5.1 What'],
}
const USUAL: Record<Stage, string> = {
  greeting: '220 ready',
  ehlo: '',
  starttls: '',
  auth: '',
  mail: '250 2.1.0 Ok',
  rcpt: '250 2.1.5 Ok',
  data: '354 Go ahead',
  dot: '250 2.0.0 Taken',
  rset: '250 2.0.0 Reset',
  quit: '221 2.0.0 Bye',
}

/** Starts one; `random` decides. */
export async function startScriptedHop(random: () => number, lmtp: boolean): Promise<ScriptedHop> {
  const arrived: ScriptedHop['arrived'] = []
  const texts = new WeakMap<SinkSession, string>()
  /** Whose transaction it is that a session answers for, by its last MAIL, accepted or not. */
  const senders = new WeakMap<SinkSession, string>()
  const extras = new WeakMap<SinkSession, string>()
  /** Sessions that refused a message before its end: they take none then. */
  const refusing = new WeakSet<SinkSession>()
  const confused = new Set<string>()
  const tell = (session: SinkSession, words: string) => `${words} for ${senders.get(session) ?? 'nobody'}`

  function flush(session: SinkSession) {
    const line = extras.get(session)
    extras.delete(session)
    if (line !== undefined && !session.socket.destroyed) session.socket.write(line)
  }

  function fault(stage: Stage, session: SinkSession, words: string): Response {
    if (words === 'drop' || words === 'hang') return words
    if (words === 'garbage') return Buffer.from('\0?\r\n')
    if (words !== 'twice') return tell(session, words)
    // A reply too many: before the next one, or by itself when none comes.
    confused.add(senders.get(session) ?? '')
    const line = `${tell(session, '550 5.0.0 One too many')}\r\n`
    extras.set(session, line)
    setTimeout(() => flush(session), 2)
    return tell(session, USUAL[stage])
  }

  /** LMTP answers one by one, and may stop in the middle. Nothing: as at any other step. */
  function lmtpAnswers(session: SinkSession): Response {
    const { from = '', to, socket } = session
    const answers = to.map((recipient) => {
      const words = random() < TROUBLE ? pick(['450 4.2.2 Full', '550 5.2.1 Off'], random) : USUAL.dot
      return `${tell(session, words)} ${recipient}`
    })
    if (random() >= TROUBLE) return answers
    const heard = Math.floor(random() * answers.length)
    const taken = to.filter((_, index) => answers[index]?.startsWith('2'))
    if (taken.length) arrived.push({ from, to: taken, text: texts.get(session) ?? '' })
    socket.end(
      answers
        .slice(0, heard)
        .map((line) => `${line}\r\n`)
        .join(''),
    )
    return 'hang'
  }

  const options: SinkOptions = {
    lmtp,
    ...(random() < 0.5 && { extensions: ['SIZE'] }),
    respond: (stage, argument, session) => {
      flush(session)
      if (refusing.has(session)) return 'drop'
      if (stage === 'mail') senders.set(session, /<(.*?)>/.exec(argument)?.[1] ?? '')
      const whose = stage === 'rcpt' ? ` ${/<(.*?)>/.exec(argument)?.[1]}` : ''
      if (stage !== 'quit' && random() < TROUBLE && FAULTS[stage].length) {
        const words = pick(FAULTS[stage], random)
        if (words !== 'taken, then drop')
          return fault(stage, session, words + (/^\d/.test(words) ? whose : ''))
        const { from = '', to } = session
        arrived.push({ from, to: [...to], text: texts.get(session) ?? '' })
        return 'drop'
      }
      if (stage === 'dot' && lmtp) return lmtpAnswers(session)
      return stage === 'ehlo' ? undefined : tell(session, USUAL[stage] + whose)
    },
    onData: (_, session) => {
      if (random() >= TROUBLE / 4) return undefined
      refusing.add(session)
      return pick(['drop', tell(session, '554 5.7.1 Enough')], random)
    },
  }

  let sink: Sink = await startSink(options)
  const { port } = sink
  const collect = () => {
    for (const { from, to, data } of sink.messages.splice(0))
      arrived.push({ from, to, text: data.toString() })
  }
  return {
    address: sink.address(),
    arrived,
    confused,
    async restart() {
      await sink.close()
      collect()
      sink = await startSink({ ...options, port })
    },
    async close() {
      await sink.close()
      collect()
    },
  }
}
