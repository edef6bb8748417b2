// Ways round a limit at a real Haraka: none gains anything.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { type Haraka, installHaraka } from './support/haraka'
import { codes, each, guess, only, sessionFrom, startLimits, tryMail, tryRcpt } from './support/limits'
import { until } from './support/patience'
import { type Reply, SmtpClient } from './support/smtp-client'

const proxy = '127.90.9.9'

const limits = [
  only('messages per ip', '127.91.0.0/16 = 2/1h', '2001:db8:1::/48 = 2/1h'),
  only('messages per network', '2001:db8:2::/48 = 2/1h'),
  only('concurrent connections per ip', '127.0.0.1 = 1', '127.92.0.1 = 1'),
  only('recipients per ip', '127.93.0.0/16 = 3/1h'),
  only('failed logins per ip', '127.94.0.0/16 = 2/1h'),
  '[recipients per recipient]\nlimit = 2/1h\nfree@rcpt.test = unlimited\n',
  only('messages per sender', '.pass.test = 2/1h'),
  '[messages per sender domain]\nlimit = 6/1h\n.test = unlimited\n',
].join('')

let haraka: Haraka
before(async () => {
  const connection = readFileSync(join(await installHaraka(), 'config', 'connection.ini'), 'utf8')
  haraka = await startLimits({
    limits,
    files: { 'connection.ini': connection.replace('hosts[] =', `hosts[] = ${proxy}`) },
  })
})
after(() => haraka?.stop())

async function proxied(address: string): Promise<SmtpClient> {
  const [kind, own] = address.includes(':') ? ['TCP6', '2001:db8::25'] : ['TCP4', '127.0.0.1']
  const first = `PROXY ${kind} ${address} ${own} 4321 25\r\n`
  const client = await SmtpClient.connect({ port: haraka.port, from: proxy, first })
  await client.ehlo()
  return client
}

async function mailThrough(address: string): Promise<Reply> {
  const client = await proxied(address)
  const reply = await client.command('MAIL FROM:<a@b.test>')
  client.destroy()
  return reply
}

async function viaXclient(address: string): Promise<{ client: SmtpClient; reply: Reply }> {
  const client = await sessionFrom(haraka, '127.0.0.1')
  return { client, reply: await client.command(`XCLIENT ADDR=${address}`) }
}

describe('a recipient called', () => {
  const names = [
    'enabled',
    '127',
    '__proto__',
    'constructor',
    'limit',
    'unlimited',
    '"}"',
    '"{ip:1}:x"',
    '"free@rcpt.test"',
  ]
  for (const [index, name] of names.entries()) {
    test(`${name} hits neither an option nor another’s counter`, async () => {
      const replies = await each(3, () => tryRcpt(haraka, `127.95.${index}.1`, `${name}@rcpt.test`))
      assert.deepEqual(codes(replies), [250, 250, 450])
    })
  }

  test('the same in other letters, with a tag or in quotes is the same', async () => {
    const forms = ['same@rcpt.test', 'SAME+tag@RCPT.test', '"same"@rcpt.test']
    assert.deepEqual(
      codes(await each(3, (index) => tryRcpt(haraka, '127.95.90.1', forms[index]))),
      [250, 250, 450],
    )
    assert.equal((await tryRcpt(haraka, '127.95.90.1', 'FREE+x@rcpt.test')).code, 250)
  })
})

describe('a sender', () => {
  test('that nobody vouches for is the address, whatever it calls itself', async () => {
    const names = ['a@one.example', 'b@two.example', '', 'c@x.pass.test.example']
    const replies = await each(8, (index) => tryMail(haraka, '127.96.0.1', names[index % 4]))
    assert.deepEqual(codes(replies), [250, 250, 250, 250, 250, 250, 450, 450])
  })

  test('of nothing is counted for the address', async () => {
    const client = await sessionFrom(haraka, '127.96.0.2')
    const replies = await each(7, () => client.command('MAIL FROM:<>'))
    assert.deepEqual(codes(replies), [250, 250, 250, 250, 250, 250, 450])
    client.destroy()
  })

  test('that SPF vouches for is the same with a tag', async () => {
    const names = ['x@t.pass.test', 'x+1@t.pass.test', 'X+2@T.pass.test']
    const replies = await each(3, (index) => tryMail(haraka, `127.96.1.${index}`, names[index]))
    assert.deepEqual(codes(replies), [250, 250, 450])
  })
})

describe('an address', () => {
  test('within a /64 is the same, and within a /48 the same network', async () => {
    const near = ['2001:db8:1:2::1', '2001:db8:1:2:ffff::9', '2001:db8:1:2:1:2:3:4']
    assert.deepEqual(codes(await each(3, (index) => mailThrough(near[index]!))), [250, 250, 450])
    assert.equal((await mailThrough('2001:db8:1:3::1')).code, 250)
    const far = ['2001:db8:2:2::1', '2001:db8:2:3::1', '2001:db8:2:ffff::1']
    const replies = await each(3, (index) => mailThrough(far[index]!))
    assert.deepEqual(codes(replies), [250, 250, 450])
    assert.match(replies[2]?.text ?? '', /from 2001:db8:2::\/48 \(2 in 1h\)/)
  })

  test('of IPv4 inside of IPv6 is the same, and so it is behind PROXY and XCLIENT', async () => {
    assert.deepEqual(codes([await tryMail(haraka, '127.91.0.1')]), [250])
    assert.deepEqual(codes([await mailThrough('::ffff:127.91.0.1')]), [250])
    assert.deepEqual(codes([await mailThrough('127.91.0.1')]), [450])
    const { client } = await viaXclient('127.91.0.1')
    await client.ehlo()
    assert.equal((await client.command('MAIL FROM:<a@b.test>')).code, 450)
    client.destroy()
  })

  test('that XCLIENT changes gives its place back, and takes one of the new address', async () => {
    const first = await viaXclient('127.92.0.1')
    assert.equal(first.reply.code, 220)
    const second = await viaXclient('127.92.0.1')
    assert.equal(second.reply.code, 421)
    assert.match(second.reply.text, /Too many concurrent connections from 127\.92\.0\.1 \(1 at once\)/)
    first.client.destroy()
    // When its end has been heard.
    await until(async () => {
      const third = await viaXclient('127.92.0.1')
      third.client.destroy()
      return third.reply.code === 220
    })
  })
})

describe('one connection', () => {
  test('in which transactions are begun again and again is counted on', async () => {
    const client = await sessionFrom(haraka, '127.93.0.1')
    const replies = await each(5, async (index) => {
      await client.command('MAIL FROM:<a@b.test>')
      const reply = await client.command(`RCPT TO:<r${index}@rcpt.test>`)
      await client.command('RSET')
      return reply
    })
    assert.deepEqual(codes(replies), [250, 250, 250, 450, 450])
    client.destroy()
  })

  test('that pipelines its recipients gets as many as one that waits', async () => {
    const client = await sessionFrom(haraka, '127.93.0.2')
    const rcpts = [1, 2, 3, 4, 5, 6].map((number) => `RCPT TO:<p${number}@rcpt.test>`)
    const replies = await client.pipeline(['MAIL FROM:<a@b.test>', ...rcpts])
    assert.deepEqual(codes(replies), [250, 250, 250, 250, 450, 450, 450])
    client.destroy()
  })

  test('that says HELO is counted like one that says EHLO', async () => {
    const client = await SmtpClient.connect({ port: haraka.port, from: '127.91.1.1' })
    await client.command('HELO client.example')
    assert.deepEqual(codes(await each(3, () => client.command('MAIL FROM:<a@b.test>'))), [250, 250, 450])
    client.destroy()
  })

  test('that logs in under many names, none of them real, is counted for its address', async () => {
    const names = ['__proto__', 'limit', '}', '127.0.0.1']
    const replies = await each(4, (index) => guess(haraka, '127.94.0.1', names[index]!))
    assert.deepEqual(codes(replies), [535, 535, 454, 454])
  })
})

test('nothing of all this has failed in the log', () => {
  assert.deepEqual(haraka.failures(), [])
})
