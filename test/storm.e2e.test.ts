// A thousand messages to three next hops that fail at random: what was accepted arrives once, at the right one, unchanged.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { type Haraka, startHaraka } from './support/haraka'
import { pick, randomFrom, seed } from './support/random'
import { type Response, type Sink, type Stage, startSink } from './support/sink'
import { SmtpClient } from './support/smtp-client'

const total = Number(process.env['MESSAGES'] ?? 1000)
const sessions = 12
/** A client tries again like a mail server, but not for ever. */
const attempts = 6

const domains = ['one.test', 'two.test', 'three.test']
const random = randomFrom(seed)

/** Faults by stage: how likely, and which. Hanging costs a deadline of five seconds (less would be missed by a busy machine), so it is rare. */
const faults: [Stage, number, Response[]][] = [
  ['mail', 0.02, ['451 4.3.0 Later', 'drop', '421 4.3.2 Closing']],
  [
    'rcpt',
    0.04,
    ['450 4.2.1 Greylisted', 'drop', '550 5.1.1 No such user', Buffer.from('\xff\r\n', 'latin1')],
  ],
  ['data', 0.03, ['451 4.3.0 Later', 'drop', '421 4.3.2 Closing']],
  ['dot', 0.05, ['451 4.3.0 Later', 'drop', '554 5.7.1 Spam', '421 4.3.2 Closing']],
  ['rset', 0.1, ['drop', '500 What']],
]
const hanging: Stage[] = ['rcpt', 'dot']

function respond(stage: Stage): Response {
  if (hanging.includes(stage) && random() < 0.001) return 'hang'
  const fault = faults.find(([name]) => name === stage)
  return fault && random() < fault[1] ? pick(fault[2], random) : undefined
}

interface Mail {
  id: number
  to: string
  header: string
  body: Buffer
  accepted: boolean
}

/** Up to 60 lines: dots in front, eight-bit bytes, empty ones, some near the longest that is allowed. */
function body(): Buffer {
  const line = () => {
    const dice = random()
    if (dice < 0.15) return ''
    if (dice < 0.3) return `${'.'.repeat(1 + Math.floor(random() * 4))}${dice < 0.22 ? '' : ' x'}`
    const length = dice < 0.34 ? 900 : Math.floor(random() * 90)
    return Array.from({ length }, () => String.fromCharCode(32 + Math.floor(random() * 224))).join('')
  }
  const lines = Array.from({ length: 1 + Math.floor(random() * 60) }, line)
  return Buffer.from(`${lines.join('\r\n')}\r\n`, 'latin1')
}

const mails: Mail[] = Array.from({ length: total }, (_, id) => ({
  id,
  to: `user${id}@${pick(domains, random)}`,
  header: `Subject: storm\r\nX-Storm: ${id}\r\nX-Folded: a\r\n\tb\r\n`,
  body: body(),
  accepted: false,
}))

let sinks: Map<string, Sink>
let haraka: Haraka
let directory: string
before(async () => {
  directory = mkdtempSync(join(tmpdir(), 'relay-guard-storm-'))
  const lmtp = await startSink({ lmtp: true, path: join(directory, 'lmtp'), respond })
  sinks = new Map([
    ['one.test', await startSink({ respond })],
    ['two.test', await startSink({ respond })],
    ['three.test', lmtp],
  ])
  const section = ([domain, sink]: [string, Sink]) =>
    `[${domain}]\nnext_hop = ${sink.address()}\ntls = none\ntimeout = 5s\ntimeout_final = 5s\n`
  haraka = await startHaraka({
    plugins: ['relay-guard/acl', 'relay-guard/domains'],
    files: {
      'relay-guard/domains.ini': `[main]\nanti_spoof_from = off\n${[...sinks].map(section).join('')}`,
      'log.ini': '[main]\nlevel=notice\n',
    },
  })
})
after(async () => {
  await haraka?.stop()
  for (const sink of sinks?.values() ?? []) await sink.close()
  rmSync(directory, { recursive: true, force: true })
})

async function send(client: SmtpClient, mail: Mail) {
  const data = Buffer.concat([Buffer.from(`${mail.header}\r\n`), mail.body])
  const { dot } = await client.deliver({ from: `s${mail.id}@evil.example`, to: [mail.to], data })
  mail.accepted = dot?.code === 250
}

/** Takes messages until none is left, several in a session. */
async function keepSending(queue: Mail[], n: number) {
  let client: SmtpClient | undefined
  for (let mail = queue.shift(); mail; mail = queue.shift()) {
    for (let attempt = 0; attempt < attempts && !mail.accepted; attempt++) {
      if (!client || client.closed) {
        client = await SmtpClient.connect({ port: haraka.port, from: `127.10.1.${n + 1}` })
        await client.ehlo()
      }
      await send(client, mail)
    }
    if (random() >= 0.05) continue
    await client?.quit()
    client = undefined
  }
  await client?.quit()
}

/** What is wrong with what arrived for this message; undefined if nothing is. */
function fault(mail: Mail): string | undefined {
  const marker = `X-Storm: ${mail.id}\r\n`
  const found = [...sinks].flatMap(([domain, sink]) =>
    sink.messages.filter(({ data }) => data.includes(marker)).map((message) => ({ domain, message })),
  )
  if (found.length !== (mail.accepted ? 1 : 0)) {
    return `${mail.id}: ${mail.accepted ? 'accepted' : 'not accepted'}, but arrived ${found.length} times`
  }
  const [arrived] = found
  if (!arrived) return undefined
  const { data, to } = arrived.message
  if (!mail.to.endsWith(`@${arrived.domain}`))
    return `${mail.id}: for ${mail.to}, arrived at ${arrived.domain}`
  if (to.map((path) => path.replace(/[<>]/g, '')).join() !== mail.to)
    return `${mail.id}: for ${mail.to}, said ${to}`
  const end = data.indexOf('\r\n\r\n')
  if (!data.subarray(0, end + 2).includes(mail.header)) return `${mail.id}: header changed`
  return data.subarray(end + 4).equals(mail.body) ? undefined : `${mail.id}: body changed`
}

test(`${total} messages under random faults arrive once, unchanged, or not at all (seed ${seed})`, async () => {
  const queue = [...mails]
  await Promise.all(Array.from({ length: sessions }, (_, n) => keepSending(queue, n)))
  assert.deepEqual(
    mails.flatMap((mail) => fault(mail) ?? []),
    [],
  )
  const accepted = mails.filter((mail) => mail.accepted).length
  assert.ok(accepted > total * 0.8, `only ${accepted} were accepted`)
  assert.deepEqual(haraka.failures(), [])
})
