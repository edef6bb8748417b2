// The next hops of the soak, in a process of its own: they keep a count for each message and get into trouble as told.
import { createServer, type Server, type Socket } from 'node:net'
import { randomFrom } from '../test/support/random'
import { answerQuestions } from './child'
import { MOST_IDS, type Seen } from './soak-ledger'

export type HopName = 'forward' | 'queue' | 'lmtp' | 'internet'

/** What can be wrong with a next hop. `dead`: nobody listens, and its connections are gone; `paused`: as a stopped process. */
export const troubles = [
  'dead',
  'paused',
  'full',
  'defers',
  'refuses',
  'drops',
  'dies after the dot',
] as const
export type Trouble = (typeof troubles)[number] | 'none'

/** Begin, bring a next hop into trouble or out of it, or tell what came. */
export type Order = { begin: number } | { hop: HopName; trouble: Trouble } | { tell: true }
/** To `begin` the ports, to `tell` what was seen. */
export type Answer = { ports?: Record<HopName, number>; seen?: Seen }

/** An answer that its client has had for so long, ms, got out, even if the client says nothing more. */
const GOT_OUT = 2000

const none = () => new Uint8Array(MOST_IDS)
const seen: Seen = { delivered: none(), unanswered: none(), told: none(), toldUnanswered: none() }
let random = randomFrom(0)

class Hop {
  readonly name: HopName
  trouble: Trouble = 'none'
  port = 0
  #server: Server | undefined
  #sockets = new Set<Socket>()

  constructor(name: HopName) {
    this.name = name
  }

  async listen(): Promise<void> {
    const server = createServer((socket) => {
      this.#sockets.add(socket)
      socket.on('error', () => {}).on('close', () => this.#sockets.delete(socket))
      socket.setNoDelay(true)
      if (this.trouble === 'paused') socket.pause()
      new Session(this, socket).start()
    })
    this.#server = server
    await new Promise<void>((resolve) => server.listen(this.port, '127.0.0.1', resolve))
    const address = server.address()
    if (address && typeof address === 'object') this.port = address.port
  }

  async become(trouble: Trouble): Promise<void> {
    const before = this.trouble
    this.trouble = trouble
    if (trouble === 'dead') {
      this.#server?.close()
      for (const socket of this.#sockets) socket.destroy()
    }
    if (before === 'dead' && trouble !== 'dead') await this.listen()
    for (const socket of this.#sockets) socket[trouble === 'paused' ? 'pause' : 'resume']()
  }
}

class Session {
  #heard = ''
  #from = ''
  #to: string[] = []
  #inMessage = false
  /** Takes back that the last message is unanswered; called when its answer got out. */
  #confirm: () => void = () => {}

  constructor(
    private readonly hop: Hop,
    private readonly socket: Socket,
  ) {}

  start(): void {
    const isFull = this.hop.trouble === 'full'
    this.socket.write(isFull ? '421 4.7.0 Too many connections\r\n' : '220 hop.example ready\r\n')
    if (isFull) return void this.socket.end()
    this.socket.on('data', (chunk) => this.#read(chunk.toString('latin1')))
  }

  #read(text: string): void {
    this.#heard += text
    for (;;) {
      const mark = this.#inMessage ? '\r\n.\r\n' : '\r\n'
      const end = this.#heard.indexOf(mark)
      if (end < 0 || this.socket.destroyed) return
      const line = this.#heard.slice(0, end)
      this.#heard = this.#heard.slice(end + mark.length)
      this.#confirm()
      const said = this.#inMessage ? this.#finish(line) : this.#command(line)
      if (said) this.socket.write(said)
    }
  }

  #command(line: string): string {
    const verb = line.slice(0, 4).toUpperCase()
    const isBusy = ['MAIL', 'RCPT', 'DATA'].includes(verb)
    if (this.hop.trouble === 'drops' && isBusy && random() < 0.2) {
      this.socket.destroy()
      return ''
    }
    if (this.hop.trouble === 'defers' && isBusy && random() < 0.3) return '451 4.3.0 Not now\r\n'
    const address = /<(.*?)>/.exec(line)?.[1] ?? ''
    switch (verb) {
      case 'EHLO':
      case 'LHLO':
        return '250-hop.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n'
      case 'MAIL':
        this.#from = address
        this.#to = []
        return '250 2.1.0 Ok\r\n'
      case 'RCPT':
        if (address.startsWith('nobody') || this.#refuses()) return '550 5.1.1 No such user\r\n'
        this.#to.push(address)
        return '250 2.1.5 Ok\r\n'
      case 'DATA':
        if (this.#to.length === 0) return '503 5.5.1 RCPT first\r\n'
        this.#inMessage = true
        return '354 Go ahead\r\n'
      case 'QUIT':
        this.socket.end('221 2.0.0 Bye\r\n')
        return ''
      default:
        return '250 2.0.0 Ok\r\n'
    }
  }

  /** Never a DSN: nobody would be told. */
  #refuses = () => this.hop.trouble === 'refuses' && this.#from !== '' && random() < 0.3

  #finish(message: string): string {
    this.#inMessage = false
    const { trouble } = this.hop
    const isLmtp = this.hop.name === 'lmtp'
    const forEach = (line: string) => (isLmtp ? this.#to.map(() => line).join('') : line)
    if (trouble === 'defers' && random() < 0.3) return forEach('451 4.3.0 Not now\r\n')
    if (this.#refuses()) return forEach('554 5.7.1 Not this one\r\n')
    this.#record(Number(/^X-Soak: (\d+)\r?$/m.exec(message)?.[1] ?? 0))
    if (trouble === 'dies after the dot' && random() < 0.5) {
      this.socket.destroy()
      return ''
    }
    if (!isLmtp) return '250 2.0.0 Queued\r\n'
    const off = '550 5.2.1 Mailbox is off\r\n'
    return this.#to.map((path) => (path.startsWith('off') ? off : '250 2.1.5 Ok\r\n')).join('')
  }

  #record(id: number): void {
    const [count, unanswered] =
      this.#from === '' ? [seen.told, seen.toldUnanswered] : [seen.delivered, seen.unanswered]
    count[id]!++
    unanswered[id]!++
    const confirm = () => {
      clearTimeout(timer)
      unanswered[id]!--
      this.#confirm = () => {}
    }
    const timer = setTimeout(() => {
      if (!this.socket.destroyed && this.#confirm === confirm) confirm()
    }, GOT_OUT)
    this.#confirm = confirm
  }
}

const hops = (['forward', 'queue', 'lmtp', 'internet'] as const).map((name) => new Hop(name))

async function obey(order: Order): Promise<Answer> {
  if ('tell' in order) return { seen }
  if ('begin' in order) {
    random = randomFrom(order.begin)
    for (const hop of hops) await hop.listen()
    const port = (name: HopName) => hops.find((hop) => hop.name === name)!.port
    return {
      ports: {
        forward: port('forward'),
        queue: port('queue'),
        lmtp: port('lmtp'),
        internet: port('internet'),
      },
    }
  }
  await hops.find(({ name }) => name === order.hop)?.become(order.trouble)
  return {}
}

if (require.main === module) answerQuestions(obey)
