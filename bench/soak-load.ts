// The clients of the soak, in a process of its own: so many sessions a second of a fixed mix, come what may.
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { randomFrom } from '../test/support/random'
import { addressAt } from './addresses'
import { answerQuestions } from './child'
import { hundred, kinds, OVERFLOW } from './soak-kinds'
import { ACCEPTED, MOST_IDS, PAIR, REFUSED, UNANSWERED } from './soak-ledger'

const names = Object.keys(kinds)

export interface SoakLoad {
  port: number
  perSecond: number
  seconds: number
  seed: number
}

/** How the sessions of a kind ended; `cut`: no answer, or no connection. */
export type Ends = Record<'fine' | 'refused' | 'cut', number>

export interface SoakReport {
  seconds: number
  sessions: number
  ends: Record<string, Ends>
  /** By number, what the client of a message was told. */
  states: Uint8Array
  lastId: number
}

const DEADLINE = 90_000

interface Ended {
  end: keyof Ends
  /** Commands sent when it ended. */
  sent: number
  /** The message itself was answered with 2xx. */
  isTaken: boolean
}

/** One session; never rejects. It ends at the first 4xx or 5xx but of the second of two recipients. */
function talk(port: number, localAddress: string, says: string[]): Promise<Ended> {
  return new Promise((resolve) => {
    let sent = 0
    let heard = ''
    let isTaken = false
    let end: keyof Ends = 'cut'
    const socket = connect({ port, host: '127.0.0.1', localAddress })
    socket.setNoDelay(true)
    socket.setTimeout(DEADLINE, () => socket.destroy())
    socket.on('error', () => {}).on('close', () => resolve({ end, sent, isTaken }))
    socket.on('data', (chunk) => {
      heard += chunk.toString('latin1')
      const lastLine = heard.lastIndexOf('\n', heard.length - 2) + 1
      if (!heard.endsWith('\n') || heard[lastLine + 3] === '-') return
      const isRefused = heard.charCodeAt(lastLine) >= 0x34
      heard = ''
      if (isRefused) {
        if (!isTaken) end = 'refused'
        return void socket.end()
      }
      if (sent === says.length - 1) {
        end = 'fine'
        isTaken = true
      }
      const next = says[sent++]
      if (next === undefined) return void socket.end()
      socket.write(next)
    })
  })
}

async function run({ port, perSecond, seconds, seed }: SoakLoad): Promise<SoakReport> {
  const random = randomFrom(seed)
  const states = new Uint8Array(MOST_IDS)
  const ends = Object.fromEntries(names.map((name) => [name, { fine: 0, refused: 0, cut: 0 }]))
  const open = new Map(names.map((name) => [name, 0]))
  let lastId = 0
  let sessions = 0
  let running = 0

  async function session(name: string) {
    const kind = kinds[name]!
    const at = sessions++
    const id = kind.mails ? ++lastId : at
    if (lastId >= MOST_IDS) return
    running++
    open.set(name, open.get(name)! + 1)
    const says = kind.says(id)
    const { end, sent, isTaken } = await talk(
      port,
      addressAt(kind.network, (at * 101) % kind.addresses),
      says,
    )
    running--
    open.set(name, open.get(name)! - 1)
    ends[name]![end]++
    if (!kind.mails) return
    // The message is the last command but QUIT.
    const isSent = sent >= says.length - 1
    const state = isTaken ? ACCEPTED : end === 'cut' && isSent ? UNANSWERED : REFUSED
    states[id] = state + (kind.pair ? PAIR : 0)
  }

  const choose = () => {
    const name = hundred[Math.floor(random() * hundred.length)]!
    return open.get(name)! < kinds[name]!.open ? name : OVERFLOW
  }
  const start = performance.now()
  let behind = 0
  for (let due = 0; due < perSecond * seconds; ) {
    await sleep(10)
    const now = Math.min((performance.now() - start) / 1000, seconds)
    // More than these at once nobody would be served sooner.
    for (due = Math.floor(now * perSecond); sessions + behind < due; ) {
      if (running >= 1000) behind++
      else void session(choose())
    }
    if (now >= seconds) break
  }
  while (running > 0) await sleep(50)
  return { seconds: (performance.now() - start) / 1000, sessions, ends, states, lastId }
}

if (require.main === module) answerQuestions(run)
