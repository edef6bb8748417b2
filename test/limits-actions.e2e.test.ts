// What a limit does with who is over it: shadow, reject, block, exceptions; and what it must not count.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Haraka } from './support/haraka'
import { isHaraka32 } from './support/install'
import { codes, each, only, sessionFrom, startLimits, tryConnect, tryMail, tryRcpt } from './support/limits'
import { SmtpClient } from './support/smtp-client'
import { said } from './support/tries'

const limits = [
  only('connections per ip', 'action = reject', 'block = 10m', '127.1.0.1 = 2/1h', '127.30.0.1 = 1/1h'),
  only('concurrent connections per ip', 'block = 10m', '127.1.1.1 = 2', '127.30.0.1 = 1'),
  only('concurrent connections per network', 'action = shadow', '127.1.3.0/24 = 1'),
  only('messages per ip', '127.1.7.1 = 1/1h'),
  only('messages per network', '127.1.7.0/24 = 3/1h', '127.30.1.0/24 = 1/1h', '127.1.7.9 = unlimited'),
  only('messages per sender domain', 'action = shadow', 'shadow.pass.test = 1/1h'),
  only('recipients per ip', '127.1.8.0/24 = 2/1h'),
  only('recipients per recipient', 'full@rcpt.test = 1/1h'),
  only('recipients per network', 'action = reject', '127.1.9.0/24 = 2/1h'),
  only('refused recipients per ip', '127.1.9.1 = 1/1h', '127.30.0.1 = 1/1h'),
  '[recipients per message]\nlimit = 3\n',
  only('bytes per ip', '127.1.4.0/24 = 5K/1h'),
  '[errors per connection]\nlimit = 4\n',
].join('')

const data = `Subject: test\r\n\r\n${`${'y'.repeat(98)}\r\n`.repeat(30)}`

let haraka: Haraka
before(async () => {
  haraka = await startLimits({ limits })
})
after(() => haraka?.stop())

describe('over its limit', () => {
  test('a rejected address is told so for good, and blocked for all else, also in what it has open', async () => {
    const open = await sessionFrom(haraka, '127.1.0.1')
    await tryConnect(haraka, '127.1.0.1')
    const third = await tryConnect(haraka, '127.1.0.1')
    assert.deepEqual(said([third]), ['554 5.7.1'])
    assert.match(third.text, /Too many connections from 127\.1\.0\.1 \(2 in 1h\)/)
    assert.deepEqual(said([await tryConnect(haraka, '127.1.0.1')]), ['554 5.7.1'])
    const mail = await open.command('MAIL FROM:<a@b.test>')
    assert.deepEqual(said([mail]), ['550 5.7.1'])
    assert.match(
      mail.text,
      /^5\.7\.1 127\.1\.0\.1 is blocked \(too many connections\), try again in (59\d|600) s/,
    )
    open.destroy()
  })

  test('an address with too many connections open is blocked, also when it has closed them', async () => {
    const open = await each(2, () => sessionFrom(haraka, '127.1.1.1'))
    const third = await tryConnect(haraka, '127.1.1.1')
    assert.match(third.text, /^4\.7\.0 Too many concurrent connections from 127\.1\.1\.1 \(2 at once\)/)
    for (const client of open) await client.quit()
    const reply = await tryConnect(haraka, '127.1.1.1')
    assert.equal(reply.code, 421, reply.text)
    assert.equal(
      (await haraka.waitForLog(/127\.1\.1\.1 is blocked/)).includes('[concurrent connections'),
      true,
    )
  })

  test('a shadow lets through what it would refuse, and says so in the log', async () => {
    const replies = await each(3, () => tryMail(haraka, '127.1.2.1', 'a@shadow.pass.test'))
    assert.deepEqual(codes(replies), [250, 250, 250])
    await haraka.waitForLog(/message\.limited-shadow.*\[messages per sender domain\] shadow\.pass\.test/)
    const open = await each(3, (index) => sessionFrom(haraka, `127.1.3.${index + 1}`))
    await haraka.waitForLog(/connection\.limited-shadow.*\[concurrent connections per network\] 127\.1\.3\.0/)
    for (const client of open) client.destroy()
  })

  test('a message takes so many recipients, and the client is asked to send the rest in another one', async () => {
    const client = await sessionFrom(haraka, '127.1.5.1')
    for (const _ of [1, 2]) {
      const { rcpt } = await client.deliver({ from: 'a@b.test', to: ['1@c', '2@c', '3@c', '4@c'] })
      assert.deepEqual(said(rcpt).at(-1), '452 4.5.3')
      assert.deepEqual(codes(rcpt), [250, 250, 250, 452])
    }
    await client.quit()
  })

  test('a message that says it is too large is refused at MAIL, for good where it can never fit', async () => {
    const client = await sessionFrom(haraka, '127.1.4.1')
    assert.deepEqual(said([await client.command('MAIL FROM:<a@b.test> SIZE=6000')]), ['552 5.3.4'])
    const { mail, dot } = await client.deliver({
      from: 'a@b.test',
      to: ['c@d.test'],
      data,
      parameters: 'SIZE=3200',
    })
    assert.deepEqual(codes([mail, dot!]), [250, 250])
    assert.deepEqual(said([await client.command('MAIL FROM:<a@b.test> SIZE=3200')]), ['452 4.3.1'])
    assert.deepEqual(codes([await client.command('MAIL FROM:<a@b.test> SIZE=1000')]), [250])
    await client.quit()
  })
})

describe('errors per connection', () => {
  const noise: Record<string, string> = {
    'unknown commands': 'NONSENSE',
    'RCPT without MAIL': 'RCPT TO:<a@b.test>',
    'MAIL that cannot be read': 'MAIL TO:<a@b.test>',
    'DATA without a recipient': 'DATA',
  }
  for (const [name, line] of Object.entries(noise)) {
    // Haraka 3.2 does not count an address that it cannot read.
    const isCounted = !(isHaraka32 && line.startsWith('MAIL'))
    test(`end it after four ${name}`, { skip: !isCounted }, async () => {
      const client = await sessionFrom(haraka, '127.1.6.1')
      const replies = await each(4, () => client.command(line))
      assert.ok(
        codes(replies).every((code) => code >= 500),
        codes(replies).join(),
      )
      client.raw(`${line}\r\nNOOP\r\n`)
      const [fifth, last, end] = await each(3, () => client.reply())
      assert.ok(fifth!.code >= 500, fifth?.text)
      assert.equal(last?.code, 421)
      assert.match(last?.text ?? '', /^4\.7\.0 Too many errors on this connection \(4\) \(id [0-9A-F]{8}\)$/)
      assert.equal(end?.code, 0, 'the NOOP is not read')
    })
  }

  for (const greeting of ['EHLO c.test', 'HELO c.test', '']) {
    test(`end it after four of 5,000 bad commands in one write, after "${greeting}"`, async () => {
      const client = await SmtpClient.connect({ port: haraka.port, from: '127.1.6.2' })
      if (greeting) assert.equal((await client.command(greeting)).code, 250)
      for (let packet = 0; packet < 3; packet++) client.raw('NONSENSE\r\n'.repeat(5000))
      const replies: number[] = []
      for (let reply = await client.reply(); reply.code; reply = await client.reply())
        replies.push(reply.code)
      assert.deepEqual(replies, [500, 500, 500, 500, 500, 421])
    })
  }
})

describe('not counted', () => {
  test('is a [relay] client’s connection or recipient that there is not; its messages are', async () => {
    const open = await each(3, () => sessionFrom(haraka, '127.30.0.1'))
    for (const client of open) client.destroy()
    const replies = await each(3, () => tryRcpt(haraka, '127.30.0.1', 'nobody@rcpt.test'))
    assert.deepEqual(codes(replies), [550, 550, 550])
    const mails = await each(2, (index) => tryMail(haraka, `127.30.1.${index + 1}`))
    assert.deepEqual(codes(mails), [250, 450])
  })

  test('is for a network what the limit of an address refuses, nor an address that is taken out', async () => {
    assert.deepEqual(codes(await each(6, () => tryMail(haraka, '127.1.7.1'))), [250, 450, 450, 450, 450, 450])
    assert.deepEqual(codes(await each(4, () => tryMail(haraka, '127.1.7.9'))), [250, 250, 250, 250])
    assert.deepEqual(codes(await each(3, () => tryMail(haraka, '127.1.7.2'))), [250, 250, 450])
  })

  test('is a recipient that something else refuses, now or for good', async () => {
    const from = '127.1.8.1'
    const names = ['nobody', 'later', 'nobody', 'later', 'b', 'nobody', 'c']
    const replies = await each(names.length, (index) => tryRcpt(haraka, from, `${names[index]}@rcpt.test`))
    assert.deepEqual(codes(replies), [550, 450, 550, 450, 250, 550, 250])
    assert.equal((await tryRcpt(haraka, from)).code, 450)
  })

  test('is such a recipient in the same transaction, pipelined', async () => {
    const client = await sessionFrom(haraka, '127.1.8.2')
    const names = ['nobody', 'a', 'later', 'nobody', 'b', 'c']
    const replies = await client.pipeline([
      'MAIL FROM:<a@b.test>',
      ...names.map((name) => `RCPT TO:<${name}@rcpt.test>`),
    ])
    assert.deepEqual(codes(replies), [250, 550, 250, 450, 550, 250, 450])
    client.destroy()
  })

  test('is a recipient that one of several limits refuses, in any of them', async () => {
    const from = '127.1.8.3'
    assert.equal((await tryRcpt(haraka, '127.1.8.4', 'full@rcpt.test')).code, 250)
    const replies = await each(4, () => tryRcpt(haraka, from, 'full@rcpt.test'))
    assert.deepEqual(codes(replies), [450, 450, 450, 450])
    assert.deepEqual(codes(await each(3, () => tryRcpt(haraka, from))), [250, 250, 450])
  })

  test('are the bytes of a message that is refused', async () => {
    const client = await sessionFrom(haraka, '127.1.4.2')
    const spam = data.replace('test', 'spam')
    for (const _ of [1, 2, 3]) {
      const { dot } = await client.deliver({ from: 'a@b.test', to: ['c@d.test'], data: spam })
      assert.equal(dot?.code, 550)
    }
    const { dot } = await client.deliver({ from: 'a@b.test', to: ['c@d.test'], data })
    assert.equal(dot?.code, 250)
    await client.quit()
  })

  test('is a refusal by a limit as a refused recipient', async () => {
    const from = '127.1.9.1'
    const replies = await each(5, () => tryRcpt(haraka, from))
    assert.deepEqual(codes(replies), [250, 250, 550, 550, 550])
    assert.match(replies[4]?.text ?? '', /Too many recipients from 127\.1\.9\.0\/24/)
  })
})

test('the bytes of a client that hangs up at the end of a message are counted', async () => {
  const from = '127.1.4.3'
  const client = await sessionFrom(haraka, from)
  for (const line of ['MAIL FROM:<a@b.test>', 'RCPT TO:<slow@d.test>', 'DATA']) await client.command(line)
  client.raw(`${data}.\r\n`)
  await haraka.waitForLog(/storing slowly/)
  client.destroy()
  await haraka.waitForLog(/stored slowly/)
  const again = await sessionFrom(haraka, from)
  assert.equal((await again.deliver({ from: 'a@b.test', to: ['c@d.test'], data })).dot?.code, 452)
  await again.quit()
})

test('nothing of all this has failed in the log', () => {
  assert.deepEqual(haraka.failures(), [])
})
