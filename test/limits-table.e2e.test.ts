// Each pair of limits.ini at a real Haraka: whom it counts together, whom it does not, and what it says.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Haraka } from './support/haraka'
import {
  codes,
  each,
  guess,
  only,
  sessionFrom,
  startLimits,
  tryConnect,
  tryMail,
  tryRcpt,
} from './support/limits'
import { type Reply, SmtpClient } from './support/smtp-client'

/**
 * The section; the exception with the limit of two; how it is counted; who is counted together (N is the number of
 * the try) and who is not, as an address, and user, sender or recipient; how the reply names him.
 */
const table = `
connections per ip              | 127.1.0.1       | connect | 127.1.0.1                             | 127.1.0.2                         | from 127.1.0.1
connections per network         | 127.1.1.0/24    | connect | 127.1.1.N                             | 127.1.4.1                         | from 127.1.1.0/24
concurrent connections per ip   | 127.1.2.1       | hold    | 127.1.2.1                             | 127.1.2.2                         | from 127.1.2.1
concurrent connections per network | 127.1.3.0/24 | hold    | 127.1.3.N                             | 127.1.5.1                         | from 127.1.3.0/24
messages per ip                 | 127.2.0.1       | mail    | 127.2.0.1                             | 127.2.0.2                         | from 127.2.0.1
messages per network            | 127.2.1.0/24    | mail    | 127.2.1.N                             | 127.2.2.1                         | from 127.2.1.0/24
messages per user               | anna            | mail    | 127.2.3.N user=anna                   | 127.2.3.1 user=bert               | from anna
messages per sender             | a@one.pass.test | mail    | 127.2.4.N sender=A+N@One.Pass.Test    | 127.2.4.1 sender=b@one.pass.test  | from a@one.pass.test
messages per sender domain      | two.pass.test   | mail    | 127.2.5.N sender=aN@TWO.pass.test     | 127.2.5.1 sender=a@x.two.pass.test | from two.pass.test
recipients per ip               | 127.4.0.1       | rcpt    | 127.4.0.1                             | 127.4.0.2                         | from 127.4.0.1
recipients per network          | 127.4.1.0/24    | rcpt    | 127.4.1.N                             | 127.4.2.1                         | from 127.4.1.0/24
recipients per user             | bert            | rcpt    | 127.4.3.N user=bert                   | 127.4.3.1 user=carl               | from bert
recipients per sender           | a@six.pass.test | rcpt    | 127.4.4.N sender=a@six.pass.test      | 127.4.4.1 sender=b@six.pass.test  | from a@six.pass.test
recipients per sender domain    | .four.pass.test | rcpt    | 127.4.5.N sender=N@x.four.pass.test   | 127.4.5.1 sender=a@y.four.pass.test | from x.four.pass.test
recipients per recipient        | b@five.test     | rcpt    | 127.4.6.N to=B+tagN@FIVE.test         | 127.4.6.1 to=c@five.test          | to b@five.test
recipients per recipient domain | six.test        | rcpt    | 127.4.7.N to=bN@six.test              | 127.4.7.1 to=b@sub.six.test       | to six.test
bytes per ip                    | 127.5.0.1       | deliver | 127.5.0.1                             | 127.5.0.2                         | from 127.5.0.1
bytes per network               | 127.5.1.0/24    | deliver | 127.5.1.N                             | 127.5.2.1                         | from 127.5.1.0/24
bytes per user                  | carl            | deliver | 127.5.3.N user=carl                   | 127.5.3.1 user=dora               | from carl
bytes per sender                | a@ten.pass.test | deliver | 127.5.4.N sender=a@ten.pass.test      | 127.5.4.1 sender=b@ten.pass.test  | from a@ten.pass.test
bytes per sender domain         | ate.pass.test   | deliver | 127.5.5.N sender=aN@ate.pass.test     | 127.5.5.1                         | from ate.pass.test
bytes per recipient domain      | nine.test       | deliver | 127.5.6.N to=bN@nine.test             | 127.5.6.1 to=b@ten.test           | to nine.test
failed logins per ip            | 127.6.0.1       | guess   | 127.6.0.1 user=nobodyN                | 127.6.0.2 user=nobody             | from 127.6.0.1
failed logins per network       | 127.6.1.0/24    | guess   | 127.6.1.N user=nobodyN                | 127.6.2.1 user=nobody             | from 127.6.1.0/24
failed logins per user          | dora            | guess   | 127.6.3N.1 user=Dora                  | 127.6.4.1 user=emil               | for dora
refused recipients per ip       | 127.7.0.1       | refused | 127.7.0.1                             | 127.7.0.2                         | from 127.7.0.1
refused recipients per network  | 127.7.1.0/24    | refused | 127.7.1.N                             | 127.7.2.1                         | from 127.7.1.0/24
`

interface Who {
  from: string
  user?: string
  sender?: string
  to?: string
}

const cases = table
  .trim()
  .split('\n')
  .map((line) => {
    const [section = '', key = '', verb = '', together = '', other = '', named = ''] = line.split(/\s*\|\s*/)
    return { section: section.trim(), key, verb, together, other, named }
  })

const limitOf = (section: string): string =>
  section.startsWith('concurrent') ? '2' : section.startsWith('bytes') ? '8K/1h' : '2/1h'

let haraka: Haraka
before(async () => {
  haraka = await startLimits({
    limits: cases.map(({ section, key }) => only(section, `${key} = ${limitOf(section)}`)).join(''),
  })
})
after(() => haraka?.stop())

function whoOf(text: string, index: number): Who {
  const [from = '', ...names] = text.replaceAll('N', `${index}`).split(' ')
  return { from, ...Object.fromEntries(names.map((name) => name.split('='))) }
}

const data = `Subject: test\r\n\r\n${`${'y'.repeat(98)}\r\n`.repeat(30)}`

const verbs: Record<string, (who: Who) => Promise<Reply>> = {
  connect: ({ from }) => tryConnect(haraka, from),
  hold: async ({ from }) => (await SmtpClient.connect({ port: haraka.port, from })).greeting,
  mail: ({ from, sender, user }) => tryMail(haraka, from, sender, user),
  rcpt: ({ from, to, sender, user }) => tryRcpt(haraka, from, to, sender, user),
  guess: ({ from, user = '' }) => guess(haraka, from, user),
  deliver: async ({ from, to = 'b@c.test', sender = 'a@b.test', user }) => {
    const client = await sessionFrom(haraka, from, user)
    const { mail, dot } = await client.deliver({ from: sender, to: [to], data })
    client.destroy()
    return dot ?? mail
  },
  /** Fails with a recipient that there is not, then asks for another one. */
  refused: async ({ from }) => {
    const reply = await tryRcpt(haraka, from)
    await tryRcpt(haraka, from, 'nobody@rcpt.test')
    return reply
  },
}

const said: Record<string, string> = {
  connect: '421 4.7.0',
  hold: '421 4.7.0',
  mail: '450 4.7.1',
  rcpt: '450 4.7.1',
  deliver: '452 4.3.1',
  guess: '454 4.7.0',
  refused: '450 4.7.1',
}

for (const { section, key, verb, together, other, named } of cases) {
  test(`[${section}] lets two of ${together} through and not a third`, async () => {
    const attempt = verbs[verb]!
    const passed = await each(2, (index) => attempt(whoOf(together, index + 1)))
    assert.ok(
      codes(passed).every((code) => code < 400 || code === 535),
      passed.map(({ lines }) => lines).join('\n'),
    )
    const { code, status, text } = await attempt(whoOf(together, 3))
    const [what] = section.split(' per ')
    const rate = limitOf(section)
    const most = section.startsWith('concurrent') ? '2 at once' : rate.replace('/', ' in ')
    const again = section.startsWith('concurrent') ? '' : ', try again in (\\d+) s'
    const id = /\(id ([0-9A-F]{8}(?:\.\d+)?)\)$/.exec(text)?.[1]
    const words = `Too many ${what} ${named} (${most})`
    assert.equal(`${code} ${status}`, said[verb], text)
    assert.ok(text.startsWith(`${status} ${words}`), text)
    const seconds = Number(new RegExp(`${again} \\(id`).exec(text)?.[1] ?? 3600)
    assert.ok(seconds > 3000 && seconds <= 3961, text)
    const line = await haraka.waitForLog(new RegExp(`decision.*${id}.*limited`))
    assert.ok(line.includes(`limits.ini [${section}] ${key}`), line)
    const free = await attempt(whoOf(other, 1))
    assert.ok(free.code < 400 || free.code === 535, free.text)
  })
}

test('nothing of all this has failed in the log', () => {
  assert.deepEqual(haraka.failures(), [])
})
