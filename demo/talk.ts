// One client's side of a mail, up to the first refusal.
import { type Reply, SmtpClient } from '../test/support/smtp-client'
import { user, type World } from './world'

export interface Mail {
  /** The address that the client connects from. */
  ip: string
  /** Another server's than the world's own. */
  port?: number
  /** Logs in as the demo's user. */
  login?: boolean
  from: string
  to: string[]
}

/** What was said, and the reply. */
export interface Exchange {
  said: string
  reply: Reply
}

/** Sends one message; the last exchange is the refusal, or the answer to the message. */
export async function talk(
  world: World,
  { ip, login, from, to, port = world.port }: Mail,
): Promise<Exchange[]> {
  const client = await SmtpClient.connect({ port, from: ip })
  const said: Exchange[] = []
  const tell = (what: string, reply: Reply): boolean => {
    said.push({ said: what, reply })
    return reply.code < 400 && reply.code > 0
  }
  const message = `From: <${from}>\r\nTo: <${to.join('>, <')}>\r\nSubject: hello\r\n\r\nhello\r\n`
  const send = async () => {
    if (!tell('connect', client.greeting)) return
    await client.ehlo('client.example')
    if (login && !tell(`AUTH as ${user.name}`, await client.authPlain(user.name, user.password))) return
    for (const line of [`MAIL FROM:<${from}>`, ...to.map((recipient) => `RCPT TO:<${recipient}>`)]) {
      if (!tell(line, await client.command(line))) return
    }
    const { data, dot } = await client.data(message)
    tell('message', dot ?? data)
  }
  await send()
  await client.quit()
  return said
}

/** Connects again and again, and shows the last answer. */
export async function flood(world: World, ip: string, times: number): Promise<Exchange[]> {
  let greeted = 0
  let reply: Reply | undefined
  for (let time = 0; time < times; time++) {
    const client = await SmtpClient.connect({ port: world.port, from: ip })
    reply = client.greeting
    if (reply.code === 220) greeted++
    client.destroy()
  }
  return reply ? [{ said: `connect ${times} times, ${greeted} let in, the last time`, reply }] : []
}
