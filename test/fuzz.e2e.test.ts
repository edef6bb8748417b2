// Random SMTP lines at a real Haraka: it stays up, its log holds no program error, and nothing relays.
// FUZZ=1000000 sends a million lines; SEED=n repeats a run.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { recipientForms, senderForms } from './support/battery'
import { type Haraka, startHaraka } from './support/haraka'
import { pick, randomFrom, seed } from './support/random'
import { SmtpClient } from './support/smtp-client'
import { startWorld, type World } from './support/world'

const total = Number(process.env['FUZZ'] ?? 20_000)
const linesASession = 200
const sessionsAtOnce = 16

const paths = [...recipientForms, ...senderForms].map(({ path }) => path)
const verbs = [
  'MAIL FROM:',
  'RCPT TO:',
  'MAIL FROM: ',
  'rcpt to:',
  'RCPT TO',
  'MAIL',
  'SEND FROM:',
  'SAML FROM:',
]
const others = [
  'RSET',
  'NOOP',
  'DATA',
  'VRFY',
  'EXPN',
  'HELP',
  'ETRN',
  'TURN',
  'BDAT 10 LAST',
  'AUTH FOO',
  'AUTH PLAIN =',
]
const greetings = ['EHLO', 'EHLO alpha.test', 'HELO [127.0.0.1]', 'EHLO \x80\xff', 'HELO __proto__']
const change = [
  'XCLIENT ADDR=127.30.0.1',
  'PROXY TCP4 127.30.0.1 127.0.0.1 1 25',
  'XCLIENT LOGIN=ann@alpha.test',
]
const parameters = [
  '',
  '',
  ' SIZE=1',
  ' SIZE=99999999999',
  ' BODY=8BITMIME',
  ' SMTPUTF8',
  ' AUTH=<>',
  ' X=%s',
  ' NOTIFY=NEVER',
]
const pieces = [
  '@',
  '%',
  '!',
  '"',
  '\\',
  '<',
  '>',
  ',',
  ':',
  '.',
  ' ',
  '\t',
  '\0',
  '\x80',
  'é',
  '。',
  '[',
  ']',
  '(',
  '__proto__',
  '+',
  '=',
]

type Random = () => number

/** Deletes, doubles, inserts or replaces a few characters. */
function mutate(text: string, random: Random): string {
  let result = text
  for (let times = Math.floor(random() * 4); times > 0; times--) {
    const at = Math.floor(random() * (result.length + 1))
    const rest = result.slice(at + (random() < 0.5 ? 1 : 0))
    const part = random() < 0.2 ? result.slice(at, at + 8) : random() < 0.3 ? '' : pick(pieces, random)
    result = result.slice(0, at) + part + rest
  }
  return result
}

function noise(random: Random): string {
  const length = Math.floor(random() * 80)
  return Array.from({ length }, () => String.fromCharCode(Math.floor(random() * 256))).join('')
}

/** One line, mostly MAIL and RCPT with an address of the battery that has been damaged; never a line end inside. */
function line(random: Random): string {
  const dice = random()
  const address = random() < 0.3 ? pick(paths, random) : mutate(pick(paths, random), random)
  const text =
    dice < 0.3
      ? `MAIL FROM:${address}${pick(parameters, random)}`
      : dice < 0.7
        ? `RCPT TO:${address}${pick(parameters, random)}`
        : dice < 0.8
          ? `${pick(verbs, random)}${mutate(address, random)}`
          : dice < 0.92
            ? pick(others, random)
            : dice < 0.95
              ? pick(greetings, random)
              : dice < 0.97
                ? pick(change, random)
                : dice < 0.998
                  ? noise(random)
                  : `RCPT TO:<${'a'.repeat(600)}@alpha.test>`
  return text.replace(/[\r\n]/g, ' ')
}

async function untilClosed(client: SmtpClient) {
  while ((await client.reply()).code);
}

/**
 * Writes a session's lines in groups, never reads its replies, and ends with a final dot and, apart from it
 * because Haraka drops what follows a message in one packet, QUIT.
 */
async function session(port: number, random: Random, count: number) {
  const from = random() < 0.5 ? '127.10.0.1' : '127.20.0.1'
  const client = await SmtpClient.connect({ port, from })
  await client.ehlo()
  for (let sent = 0; sent < count && !client.closed; ) {
    const size = Math.min(count - sent, 1 + Math.floor(random() * 20))
    const lines = Array.from({ length: size }, () => line(random))
    client.raw(Buffer.from(`${lines.join('\r\n')}\r\n.\r\nNOOP\r\n`, 'latin1'))
    sent += size
    await client.reply()
  }
  client.raw('\r\n.\r\n')
  await sleep(30)
  client.raw('QUIT\r\n')
  await Promise.race([untilClosed(client), sleep(2000)])
  client.destroy()
}

let world: World
let haraka: Haraka
before(async () => {
  world = await startWorld()
  haraka = await startHaraka({
    plugins: ['relay-guard/acl', 'relay-guard/auth', 'relay-guard/domains', 'auth/flat_file', 'xclient'],
    files: { ...world.files, 'log.ini': '[main]\nlevel=notice\n' },
  })
})
after(async () => {
  await haraka?.stop()
  await world?.close()
})

test(`${total} random lines (seed ${seed}) neither stop Haraka nor relay`, async () => {
  let left = total
  let number = 0
  async function keepSending() {
    while (left > 0) {
      const count = Math.min(left, linesASession)
      left -= count
      await session(haraka.port, randomFrom(seed + number++), count)
    }
  }
  await Promise.all(Array.from({ length: sessionsAtOnce }, keepSending))
  assert.deepEqual(world.internet.rcpts, [])
  const asked = [...world.smtp.rcpts, ...world.lmtp.rcpts].map((path) => path.replace(/^<|>$/g, ''))
  assert.ok(asked.length > 0, 'some lines must get through to a next hop')
  assert.deepEqual(asked.filter((address) => /[%!,]|@.*@|^imcea/i.test(address)).slice(0, 20), [])
  assert.deepEqual(haraka.failures(), [])
  const client = await SmtpClient.connect({ port: haraka.port, from: '127.10.0.1' })
  await client.ehlo()
  const { dot } = await client.deliver({ from: 'a@evil.example', to: ['anna@alpha.test'] })
  assert.equal(dot?.code, 250)
  await client.quit()
})
