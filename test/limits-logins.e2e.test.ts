// Failed logins at a real Haraka: what counts as one, for whom, and that nobody can lock out another with them.
import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import type { Haraka } from './support/haraka'
import { codes, each, guess, password, sessionFrom, startLimits, untilRedisCounts } from './support/limits'
import { RedisServer } from './support/redis'
import type { Reply, SmtpClient } from './support/smtp-client'
import { said } from './support/tries'

const limits = `[failed logins per ip]
limit = 3/1h
[failed logins per network]
limit = unlimited
127.60.5.0/24 = 4/1h
[failed logins per user]
limit = 3/1h
block = 10m
`

let redis: RedisServer
let haraka: Haraka
before(async () => {
  redis = await RedisServer.start()
  // Without the line of acl, nobody but limits looks at the rights of a new client.
  const plugins = ['xclient', 'auth/flat_file', 'relay-guard/limits', 'mailbox']
  haraka = await startLimits({ limits, redis, plugins })
  await untilRedisCounts(haraka, redis)
})
after(async () => {
  await haraka?.stop()
  await redis?.stop()
})

const base64 = (text: string) => Buffer.from(text).toString('base64')

type Login = (client: SmtpClient, user: string, word: string) => Promise<Reply>

/** The last answer of a dialogue: the first one that does not ask for more. */
async function dialogue(client: SmtpClient, lines: ((challenge: string) => string)[]): Promise<Reply> {
  let reply: Reply | undefined
  for (const line of lines) {
    reply = await client.command(line(Buffer.from(reply?.text ?? '', 'base64').toString()))
    if (reply.code !== 334) return reply
  }
  return reply!
}

const methods: Record<string, Login> = {
  PLAIN: (client, user, word) => client.authPlain(user, word),
  'PLAIN in two lines': (client, user, word) =>
    dialogue(client, [() => 'AUTH PLAIN', () => base64(`\0${user}\0${word}`)]),
  LOGIN: (client, user, word) => client.authLogin(user, word),
  'LOGIN with the name at once': (client, user, word) =>
    dialogue(client, [() => `auth login ${base64(user)}`, () => base64(word)]),
  'CRAM-MD5': (client, user, word) =>
    dialogue(client, [
      () => 'AUTH CRAM-MD5',
      (ticket) => base64(`${user} ${createHmac('md5', word).update(ticket).digest('hex')}`),
    ]),
}

describe('a login', () => {
  for (const [index, [name, login]] of Object.entries(methods).entries()) {
    test(`by ${name} counts when it fails, and is refused before the password is looked at`, async () => {
      const from = `127.60.${index + 10}.1`
      const failed = await Promise.all(
        [1, 2, 3].map(async (number) => {
          const client = await sessionFrom(haraka, from)
          const reply = await login(client, `nobody${index}${number}`, 'wrong')
          client.destroy()
          return reply
        }),
      )
      assert.deepEqual(codes(failed), [535, 535, 535])
      const client = await sessionFrom(haraka, from)
      for (const _ of [1, 2]) {
        const reply = await login(client, 'emil', password)
        assert.deepEqual(said([reply]), ['454 4.7.0'], reply.text)
        assert.match(
          reply.text,
          /Too many failed logins from 127\.60\.\d+\.1 \(3 in 1h\), try again in \d+ s \(id /,
        )
      }
      assert.equal((await client.command('MAIL FROM:<a@b.test>')).code, 250)
      client.destroy()
    })
  }

  test('that succeeds costs nothing, however often', async () => {
    for (const _ of [1, 2, 3, 4, 5]) (await sessionFrom(haraka, '127.60.2.1', 'emil')).destroy()
    const failed = await Promise.all(
      [1, 2, 3].map((number) => guess(haraka, '127.60.2.1', `someone${number}`)),
    )
    assert.deepEqual(codes(failed), [535, 535, 535])
    assert.equal((await guess(haraka, '127.60.2.1', 'someone')).code, 454)
  })

  test('under one name after another counts for the address, and for its network', async () => {
    const from = (index: number) => `127.60.5.${1 + (index % 2)}`
    const replies = await Promise.all([0, 1, 2, 3].map((index) => guess(haraka, from(index), `name${index}`)))
    assert.deepEqual(codes(replies), [535, 535, 535, 535])
    assert.match((await guess(haraka, '127.60.5.9', 'other')).text, /from 127\.60\.5\.0\/24 \(4 in 1h\)/)
  })

  test('tried in fifty connections at once lets no more guesses through than one after the other', async () => {
    const from = '127.60.3.1'
    const clients = await Promise.all(Array.from({ length: 50 }, () => sessionFrom(haraka, from)))
    const replies = await Promise.all(
      clients.map((client, index) => client.authPlain(`guess${index}`, 'wrong')),
    )
    for (const client of clients) client.destroy()
    assert.equal(codes(replies).filter((code) => code === 535).length, 3)
    assert.equal(codes(replies).filter((code) => code === 454).length, 47)
  })

  test('after XCLIENT counts for the address that it names', async () => {
    const fresh = async () => {
      const client = await sessionFrom(haraka, '127.0.0.1')
      assert.equal((await client.command('XCLIENT ADDR=127.60.4.1')).code, 220)
      await client.ehlo()
      return client
    }
    const clients = await each(3, fresh)
    assert.deepEqual(
      codes(await Promise.all(clients.map((client) => client.authPlain('stranger', 'wrong')))),
      [535, 535, 535],
    )
    assert.equal((await (await fresh()).authPlain('anna', password)).code, 454)
    assert.equal((await guess(haraka, '127.0.0.1', 'anna', password)).code, 235)
  })
})

describe('limits are no weapon', () => {
  test('strangers who try the passwords of a user do not lock him out where he logs in', async () => {
    const home = ['127.61.0.1', '127.61.0.2']
    assert.equal((await guess(haraka, home[0]!, 'anna', password)).code, 235)
    const strangers = await Promise.all([1, 2, 3].map((net) => guess(haraka, `127.62.${net}.1`, 'ANNA')))
    assert.deepEqual(codes(strangers), [535, 535, 535])
    const other = await guess(haraka, '127.62.4.1', 'anna', password)
    assert.match(other.text, /^4\.7\.0 (anna is blocked|Too many failed logins for anna)/)
    for (const from of home) assert.equal((await guess(haraka, from, 'anna', password)).code, 235, from)
    assert.equal((await sessionFrom(haraka, home[1]!, 'anna')).closed, false)
  })

  test('an old password on one phone locks out neither its office nor its user elsewhere', async () => {
    assert.equal((await guess(haraka, '127.63.0.1', 'bert', password)).code, 235)
    const phone = await Promise.all([1, 2, 3].map(() => guess(haraka, '127.63.0.1', 'bert', 'old')))
    assert.deepEqual(codes(phone), [535, 535, 535])
    assert.match(
      (await guess(haraka, '127.63.0.1', 'bert', 'old')).text,
      /^4\.7\.0 (bert is blocked|Too many)/,
    )
    for (const user of ['carl', 'dora'])
      assert.equal((await guess(haraka, '127.63.0.1', user, password)).code, 235)
    assert.equal((await guess(haraka, '127.64.0.1', 'bert', password)).code, 235)
  })

  test('a place is also learnt behind XCLIENT', async () => {
    const client = await sessionFrom(haraka, '127.0.0.1')
    await client.command('XCLIENT ADDR=127.65.0.1')
    await client.ehlo()
    assert.equal((await client.authPlain('gina', password)).code, 235)
    client.destroy()
    const strangers = await Promise.all([1, 2, 3].map((net) => guess(haraka, `127.66.${net}.1`, 'gina')))
    assert.deepEqual(codes(strangers), [535, 535, 535])
    assert.equal((await guess(haraka, '127.66.4.1', 'gina', password)).code, 454)
    assert.equal((await guess(haraka, '127.65.0.2', 'gina', password)).code, 235)
  })
})

test('nothing of all this has failed in the log', () => {
  assert.deepEqual(haraka.failures(), [])
})
