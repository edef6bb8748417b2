// AUTH at a real Haraka with [users]: what is answered and logged, who waits for whom, and what a reload takes away.
import assert from 'node:assert/strict'
import { scryptSync } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import { type Haraka, startHaraka } from './support/haraka'
import { until } from './support/patience'
import { freePort } from './support/ports'
import { type Reply, SmtpClient } from './support/smtp-client'
import { said } from './support/tries'

const SECRET = 'Marker-Secret-17'
const base64 = (text: string) => Buffer.from(text).toString('base64')
const plain = (user: string, password: string) => base64(`\0${user}\0${password}`)
const submission = 587
/** Of this process, so that another run of the suite has its own. */
const submissionHost = `127.77.${(process.pid >> 8) % 256}.${(process.pid % 254) + 1}`
const taker = `exports.hook_queue = (next) => next(OK)
exports.hook_queue_outbound = exports.hook_queue
`

let haraka: Haraka
const hash = cheapHash(SECRET)
/** The submission port is one of those that only root may open. */
const hasSubmission = process.getuid?.() === 0

/** A line's hash of the least cost that is allowed: this is no test of scrypt. */
function cheapHash(password: string): string {
  const salt = Buffer.alloc(16, 7)
  const text = (data: Buffer) => data.toString('base64').replace(/=+$/, '')
  return `$scrypt$ln=10,r=8,p=1$${text(salt)}$${text(scryptSync(password, salt, 32, { N: 1024, r: 8, p: 1 }))}`
}

const authIni = (users: string[], more = '') =>
  `[main]\nplaintext_allowed = 127.0.0.0/8\nrealm = ours.test\n${more}[users]\n${users.map((user) => `${user} = ${hash}\n`).join('')}`

before(async () => {
  haraka = await startHaraka({
    plugins: ['relay-guard/acl', 'relay-guard/auth', 'relay-guard/domains', 'taker'],
    localPlugins: { taker },
    listen: `127.0.0.1:${await freePort()}${hasSubmission ? `,${submissionHost}:${submission}` : ''}`,
    files: {
      'relay-guard/acl.ini': '[never]\n127.20.0.0/16\n',
      'relay-guard/auth.ini': authIni(['alice', 'bob', 'carl', 'dora']),
      'relay-guard/domains.ini': '[ours.test]\ndelivery = plugin\nverify = none\n',
      loglevel: 'info',
    },
  })
})
after(() => haraka?.stop())

async function session(from = '127.10.0.1', port = haraka.port, host = '127.0.0.1'): Promise<SmtpClient> {
  const client = await SmtpClient.connect({ port, host, from })
  await client.ehlo()
  return client
}

/** The replies to these lines, the session closed. */
async function talk(lines: string[], from?: string): Promise<Reply[]> {
  const client = await session(from)
  const replies: Reply[] = []
  for (const line of lines) replies.push(await client.command(line))
  client.destroy()
  return replies
}

const last = async (...lines: string[]) => (await talk(lines)).at(-1)!

describe('each refusal of AUTH', () => {
  const refused: [name: string, expected: string, ...lines: string[]][] = [
    ['of a wrong password', '535 5.7.8', `AUTH PLAIN ${plain('alice', 'wrong')}`],
    ['of a name that does not exist', '535 5.7.8', 'AUTH LOGIN', base64('nobody'), base64('wrong')],
    ['of no base64', '501 5.5.2', 'AUTH PLAIN !!!'],
    ['of a mechanism that is not offered', '504 5.5.4', 'AUTH CRAM-MD5'],
    ['of no mechanism', '501 5.5.4', 'AUTH'],
    ['of no message of PLAIN', '501 5.5.2', `AUTH PLAIN ${base64('alice')}`],
    ['of an empty name', '501 5.5.2', 'AUTH LOGIN ='],
    ['of an empty password', '501 5.5.2', `AUTH LOGIN ${base64('alice')}`, '='],
    ['of a cancelled dialogue', '501 5.7.0', 'AUTH LOGIN', '*'],
    ['of a command inside a dialogue', '501 5.5.2', 'AUTH LOGIN', 'AUTH PLAIN'],
    ['inside a transaction', '503 5.5.1', 'MAIL FROM:<>', `AUTH PLAIN ${plain('alice', SECRET)}`],
    ['after a login', '503 5.5.1', `AUTH PLAIN ${plain('alice', SECRET)}`, 'AUTH LOGIN'],
  ]
  test('has a code of RFC 4954 and an id that leads to the log', async () => {
    const replies = await Promise.all(refused.map(([, , ...lines]) => last(...lines)))
    for (const [index, [name, expected]] of refused.entries()) {
      const { text } = replies[index]!
      assert.deepEqual(said([replies[index]]), [expected], `${name}: ${text}`)
      const [, id = ''] = / \(id ([0-9A-F]{8}(?:\.\d+)?)\)$/.exec(text) ?? []
      assert.match(await haraka.waitForLog(new RegExp(`id=${id} `)), /outcome=auth\./, name)
    }
  })

  test('leaves the session as it was: the next AUTH is a new one', async () => {
    const again = await talk(['AUTH LOGIN', '*', 'AUTH LOGIN =', `AUTH PLAIN ${plain('alice', SECRET)}`])
    assert.deepEqual(
      again.map(({ code }) => code),
      [334, 501, 501, 235],
    )
  })
})

describe('a right password', () => {
  test('lets in by PLAIN and LOGIN, with and without the first message at once', async () => {
    const dialogues = [
      [`AUTH PLAIN ${plain('alice', SECRET)}`],
      ['auth plain', plain('ALICE@ours.test', SECRET)],
      ['AUTH LOGIN', base64('alice'), base64(SECRET)],
      [`AUTH login ${base64('Alice')}`, base64(SECRET)],
    ]
    for (const lines of dialogues) assert.equal((await last(...lines)).code, 235, lines[0])
  })

  test('given two hundred times at once is right two hundred times', async () => {
    const clients = await Promise.all(
      Array.from({ length: 200 }, (_, index) => session(`127.${30 + (index % 4)}.0.1`)),
    )
    const replies = await Promise.all(clients.map((client) => client.authPlain('bob', SECRET)))
    for (const client of clients) client.destroy()
    assert.deepEqual([...new Set(replies.map(({ code }) => code))], [235])
  })
})

test('No password, right or wrong, is in the log at Haraka’s own level', async () => {
  await talk(['AUTH LOGIN', base64('alice'), base64(SECRET)])
  await talk(['AUTH LOGIN', base64('alice'), base64(`${SECRET}x`)])
  await talk(['AUTH PLAIN', plain('alice', SECRET)])
  await talk(['AUTH LOGIN', base64(`\0alice\0${SECRET}`), base64(SECRET)])
  await talk([`AUTH LOGIN ${base64(`user=alice\x01auth=Bearer ${SECRET}\x01\x01`)}`, base64('x')])
  const tail = (text: string) => base64(text).slice(-12)
  for (const trace of [SECRET, base64(SECRET), tail(`\0alice\0${SECRET}`), base64(`${SECRET}x`)])
    assert.ok(!haraka.output().includes(trace), trace)
  await haraka.waitForLog(/\(hidden\)/)
})

describe('a client in [never] that has logged in', () => {
  const skip = hasSubmission ? false : 'only root may listen on port 587'
  test('on the submission port hands in mail to our domains, and relays nothing', { skip }, async () => {
    const stranger = await session('127.20.0.1', submission, submissionHost)
    assert.deepEqual((await stranger.command('MAIL FROM:<alice@ours.test>')).code, 550)
    stranger.destroy()
    const client = await session('127.20.0.1', submission, submissionHost)
    assert.equal((await client.authPlain('alice', SECRET)).code, 235)
    for (const round of [1, 2]) {
      const from = await client.command('MAIL FROM:<alice@ours.test>')
      assert.equal(from.code, 250, from.text)
      const foreign = await client.command('RCPT TO:<v@victim.example>')
      assert.deepEqual(said([foreign]), ['550 5.7.1'])
      assert.equal((await client.command('RCPT TO:<bob@ours.test>')).code, 250)
      const { dot } = await client.data(`Subject: ${round}\r\n\r\ntest\r\n`)
      assert.equal(dot?.code, 250, dot?.text)
    }
    assert.deepEqual(said([await client.command('MAIL FROM:<bob@ours.test>')]), ['550 5.7.1'])
    client.destroy()
  })
})

describe('a reload of auth.ini', () => {
  /** Writes it, and waits until it is in force. */
  async function reload(text: string) {
    const count = () => haraka.output().match(/auth\.ini was read again/g)?.length ?? 0
    const seen = count()
    haraka.write('relay-guard/auth.ini', text)
    await until(() => count() > seen, 'the reload')
  }

  test('holds for who is logged in: his name, his password, and whom he may send as', async () => {
    const login = async (user: string) => {
      const client = await session()
      assert.equal((await client.authPlain(user, SECRET)).code, 235)
      return client
    }
    const [alice, bob, carl, dora] = await Promise.all(['alice', 'bob', 'carl', 'dora'].map(login))
    const inDialogue = await session()
    await inDialogue.command('AUTH LOGIN')
    const begin = async (client: SmtpClient | undefined, from: string, to = 'v@victim.example') => {
      assert.equal((await client?.command(`MAIL FROM:<${from}>`))?.code, 250)
      assert.equal((await client?.command(`RCPT TO:<${to}>`))?.code, 250)
    }
    await begin(alice, 'alice@ours.test')
    await begin(dora, 'dora+x@ours.test')
    const other = authIni(['alice', 'carl', 'dora']).replace(/(?<=^carl = ).*$/m, cheapHash('another'))
    await reload(other.replace('[users]', '[senders]\n[users]'))
    // Still there, in the middle of a message.
    assert.equal((await alice?.command('DATA'))?.code, 354)
    // Gone, and changed: what is relayed for nobody.
    for (const client of [bob, carl]) {
      await client?.command('MAIL FROM:<x@sender.example>')
      assert.deepEqual(said([await client?.command('RCPT TO:<v@victim.example>')]), ['550 5.7.1'])
    }
    await haraka.waitForLog(/login of bob has ended/)
    assert.equal((await carl?.command('RSET'))?.code, 250)
    assert.equal((await carl?.authPlain('carl', 'another'))?.code, 235, 'and may log in anew')
    await reload(other.replace('realm = ours.test', 'realm = elsewhere.test'))
    // MAIL was dora's own address then, and is not any more.
    assert.deepEqual(said([await dora?.command('DATA')]), ['550 5.7.1'])
    await reload(authIni([]))
    assert.deepEqual((await inDialogue.command(base64('alice'))).code, 334)
    assert.deepEqual(said([await inDialogue.command(base64(SECRET))]), ['535 5.7.8'])
    assert.ok(!(await session().then((client) => client.ehlo())).text.includes('AUTH'))
    for (const client of [alice, bob, carl, dora, inDialogue]) client?.destroy()
  })
})

test('nothing of all this has failed in the log', () => {
  assert.deepEqual(haraka.failures(), [])
})
