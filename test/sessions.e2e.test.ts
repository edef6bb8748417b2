// Orders of commands that have leaked a right to relay, at a real Haraka: AUTH, RSET, STARTTLS, XCLIENT, PROXY.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { freePort, type Haraka, installHaraka, startHaraka } from './support/haraka'
import { type Reply, SmtpClient } from './support/smtp-client'
import { connectAs, password, startWorld, type World } from './support/world'

const plugins = ['xclient', 'auth/flat_file', 'relay-guard/acl', 'relay-guard/auth', 'relay-guard/domains']
const ours = '<anna@alpha.test>'
const foreign = '<v@victim.example>'
const said = (replies: (Reply | undefined)[]) =>
  replies.map((reply) => `${reply?.code} ${reply?.status}`.trim())

/** A proxy that is itself a relay client: what it may must not go over to whom it speaks for. */
const proxy = '127.30.9.9'

let world: World
let haraka: Haraka
before(async () => {
  world = await startWorld()
  const port = await freePort()
  const connection = readFileSync(join(await installHaraka(), 'config', 'connection.ini'), 'utf8')
  const listener = `[listener]\n127.0.0.2 = from 127.70.0.0/16\n[reject]\n127.80.0.0/16 = spammers\n127.80.0.7 = off\n`
  haraka = await startHaraka({
    plugins,
    tls: true,
    listen: `127.0.0.1:${port},127.0.0.2:${port}`,
    files: {
      ...world.files,
      'connection.ini': connection.replace('hosts[] =', `hosts[] = ${proxy}`),
      'relay-guard/acl.ini': world.files['relay-guard/acl.ini'] + listener,
    },
  })
})
after(async () => {
  await haraka?.stop()
  await world?.close()
})

async function connect(from: string, host = '127.0.0.1'): Promise<SmtpClient> {
  const client = await SmtpClient.connect({ port: haraka.port, from, host })
  await client.ehlo()
  return client
}

/** MAIL and RCPT to a foreign mailbox: what a client that may not relay is refused. The transaction is ended. */
async function tryRelay(client: SmtpClient, from = '<a@evil.example>'): Promise<Reply> {
  const mail = await client.command(`MAIL FROM:${from}`)
  assert.equal(mail.code, 250, mail.text)
  const reply = await client.command(`RCPT TO:${foreign}`)
  await client.command('RSET')
  return reply
}

function refused(reply: Reply) {
  assert.deepEqual(said([reply]), ['550 5.7.1'], reply.text)
}

describe('a client that may not relay', () => {
  const orders = [
    [ours, foreign],
    [foreign, ours],
    [ours, foreign, ours, foreign],
    [foreign, foreign, ours],
    ['<u@partner.example>', foreign],
    ['<postmaster>', foreign],
  ]
  for (const order of orders) {
    test(`gets only its own domains accepted in the order ${order.join(' ')}`, async () => {
      for (const kind of ['stranger', 'never', 'never, logged in'] as const) {
        const client = await connectAs(kind, haraka.port)
        await client.command('MAIL FROM:<>')
        for (const to of order) {
          const reply = await client.command(`RCPT TO:${to}`)
          if (/alpha\.test|<postmaster>/.test(to)) assert.equal(reply.code, 250, reply.text)
          else refused(reply)
        }
        await client.command('RSET')
        await client.command('MAIL FROM:<>')
        const replies = await client.pipeline(order.map((to) => `RCPT TO:${to}`))
        assert.deepEqual(
          replies.map(({ code }) => code),
          order.map((to) => (/alpha\.test|<postmaster>/.test(to) ? 250 : 550)),
        )
        await client.quit()
      }
    })
  }

  test('gains nothing from a message that went well, from RSET, EHLO or a name of ours in HELO', async () => {
    for (const kind of ['stranger', 'never', 'never, logged in'] as const) {
      const client = await connectAs(kind, haraka.port)
      assert.equal((await client.deliver({ from: '', to: ['anna@alpha.test'] })).dot?.code, 250)
      refused(await tryRelay(client, '<>'))
      await client.command('RSET')
      refused(await tryRelay(client, '<>'))
      await client.ehlo('mx.local.test')
      refused(await tryRelay(client, '<>'))
      await client.command('HELO alpha.test')
      refused(await tryRelay(client, '<>'))
      await client.quit()
    }
  })

  test('gains nothing from bare line feeds and from a whole session in one packet', async () => {
    const client = await connect('127.10.0.1')
    client.raw(`MAIL FROM:<a@evil.example>\nRCPT TO:${ours}\nRCPT TO:${foreign}\nRCPT TO:${foreign}\r\n`)
    assert.deepEqual(
      said([await client.reply(), await client.reply()]).map((s) => s.slice(0, 3)),
      ['250', '250'],
    )
    refused(await client.reply())
    refused(await client.reply())
    await client.quit()
  })

  test('is told nothing by VRFY, EXPN and ETRN', async () => {
    const client = await connect('127.10.0.1')
    for (const [line, code] of [
      ['VRFY anna', 252],
      ['EXPN staff', 500],
      ['ETRN victim.example', 500],
    ] as const) {
      assert.equal((await client.command(line)).code, code, line)
    }
    await client.quit()
  })
})

describe('AUTH', () => {
  test('inside a transaction is refused and gives no right', async () => {
    const client = await connect('127.40.0.1')
    await client.command('MAIL FROM:<a@evil.example>')
    assert.deepEqual(said([await client.authPlain('ann@alpha.test', password)]), ['503 5.5.1'])
    refused(await client.command(`RCPT TO:${foreign}`))
    await client.command('RSET')
    refused(await tryRelay(client))
    await client.quit()
  })

  test('after it succeeded is refused', async () => {
    const client = await connectAs('user', haraka.port)
    assert.deepEqual(said([await client.authPlain('bob', password)]), ['503 5.5.1'])
    await client.quit()
  })

  test('that failed gives no right', async () => {
    const client = await connect('127.40.0.1')
    assert.equal((await client.authPlain('ann@alpha.test', 'wrong')).code, 535)
    refused(await tryRelay(client))
    await client.quit()
  })

  test('is neither offered nor taken without TLS, and both after STARTTLS', async () => {
    const client = await SmtpClient.connect({ port: haraka.port, from: '127.50.0.1' })
    assert.doesNotMatch((await client.ehlo()).text, /AUTH/)
    assert.deepEqual(said([await client.authPlain('ann@alpha.test', password)]), ['538 5.7.11'])
    assert.deepEqual(said([await client.authLogin('ann@alpha.test', password)]), ['538 5.7.11'])
    refused(await tryRelay(client))
    assert.match((await client.startTls()).text, /AUTH .*PLAIN/)
    assert.equal((await client.authLogin('ann@alpha.test', password)).code, 235)
    assert.equal((await tryRelay(client, '<ann@alpha.test>')).code, 250)
    await client.quit()
  })

  test('holds for the messages after the first', async () => {
    const client = await connectAs('user', haraka.port)
    for (const n of [1, 2, 3]) {
      const { dot } = await client.deliver({ from: 'ann@alpha.test', to: [`friend${n}@victim.example`] })
      assert.equal(dot?.code, 250)
    }
    await client.quit()
  })

  test('gives a client in [never] nothing, over TLS, after RSET or in a second transaction', async () => {
    const client = await connect('127.20.0.1')
    await client.startTls()
    assert.equal((await client.authPlain('ann@alpha.test', password)).code, 235)
    refused(await tryRelay(client, '<ann@alpha.test>'))
    await client.command('RSET')
    refused(await tryRelay(client, '<ann@alpha.test>'))
    assert.equal((await client.deliver({ from: 'ann@alpha.test', to: ['anna@beta.test'] })).dot?.code, 250)
    refused(await tryRelay(client, '<ann@alpha.test>'))
    await client.quit()
  })

  const senders: [string, Record<string, number>][] = [
    [
      'bob',
      {
        'bob@alpha.test': 250,
        'bob+x@alpha.test': 250,
        'bob@beta.test': 550,
        '': 250,
        'bobb@alpha.test': 550,
      },
    ],
    ['eve', { 'eve@beta.test': 250, 'x@gamma.test': 250, 'z@beta.test': 550, 'x@sub.gamma.test': 550 }],
  ]
  for (const [user, expected] of senders) {
    test(`lets ${user} send only as the addresses of that user, a [relay] client too`, async () => {
      for (const from of ['127.40.0.1', '127.30.0.1']) {
        const client = await connect(from)
        if (from.startsWith('127.30')) await client.startTls()
        assert.equal((await client.authPlain(user, password)).code, 235)
        for (const [sender, code] of Object.entries(expected)) {
          const { mail, rcpt } = await client.deliver({ from: sender, to: ['friend@victim.example'] })
          const last = rcpt[0] ?? mail
          assert.equal(last.code, code, `${sender}: ${last.text}`)
          if (code === 550) assert.equal(last.status, '5.7.1')
        }
        await client.quit()
      }
    })
  }
})

describe('a change of address', () => {
  test('by XCLIENT forgets the login and the address before', async () => {
    const client = await connect('127.0.0.1')
    assert.equal((await client.authPlain('ann@alpha.test', password)).code, 235)
    assert.equal((await tryRelay(client, '<ann@alpha.test>')).code, 250)
    const steps: [string, number][] = [
      ['127.10.0.1', 550],
      ['127.30.0.1', 250],
      ['127.20.0.1', 550],
      ['127.10.0.2 LOGIN=ann@alpha.test', 550],
    ]
    assert.equal((await client.command(`XCLIENT ADDR=${steps[0]?.[0]}`)).code, 220)
    await client.ehlo()
    assert.equal((await tryRelay(client, '<>')).code, 550)
    await client.quit()
    for (const [address, code] of steps) {
      const fresh = await connect('127.0.0.1')
      assert.equal((await fresh.command(`XCLIENT ADDR=${address}`)).code, 220)
      await fresh.ehlo()
      assert.equal((await tryRelay(fresh, '<>')).code, code, address)
      await fresh.quit()
    }
  })

  test('by XCLIENT to a client in [never] holds against a later login', async () => {
    const client = await connect('127.0.0.1')
    assert.equal((await client.command('XCLIENT ADDR=127.20.0.1')).code, 220)
    await client.ehlo()
    assert.equal((await client.authPlain('ann@alpha.test', password)).code, 235)
    refused(await tryRelay(client, '<ann@alpha.test>'))
    await client.quit()
  })

  test('by XCLIENT is refused to those who may not change it', async () => {
    const client = await connect('127.10.0.1')
    assert.equal((await client.command('XCLIENT ADDR=127.30.0.1')).code, 550)
    refused(await tryRelay(client))
    await client.quit()
  })

  const proxied: [string, number][] = [
    ['127.10.0.1', 550],
    ['127.20.0.1', 550],
    ['127.30.0.1', 250],
  ]
  for (const [address, code] of proxied) {
    test(`by PROXY gives ${address} its own rights, not those of the proxy`, async () => {
      const first = `PROXY TCP4 ${address} 127.0.0.1 4321 25\r\n`
      const client = await SmtpClient.connect({ port: haraka.port, from: proxy, first })
      assert.equal(client.greeting.code, 220)
      await client.ehlo()
      assert.equal((await tryRelay(client)).code, code)
      await client.quit()
    })
  }

  test('by PROXY refuses an address in [reject]', async () => {
    const first = 'PROXY TCP4 127.80.0.1 127.0.0.1 4321 25\r\n'
    const client = await SmtpClient.connect({ port: haraka.port, from: proxy, first })
    assert.deepEqual(said([client.greeting]), ['554 5.7.1'])
    client.destroy()
  })
})

describe('the address of the connection', () => {
  test('in [reject] is refused at once and for good, but not where it is carved out', async () => {
    const client = await SmtpClient.connect({ port: haraka.port, from: '127.80.0.1' })
    assert.deepEqual(said([client.greeting]), ['554 5.7.1'])
    assert.equal((await client.reply()).code, 0)
    refused(await tryRelay(await connect('127.80.0.7')))
  })

  const listeners: [string, string, number][] = [
    ['127.70.0.1', '127.0.0.2', 250],
    ['127.70.0.1', '127.0.0.1', 550],
    ['127.10.0.1', '127.0.0.2', 550],
    ['127.20.0.1', '127.0.0.2', 550],
  ]
  for (const [from, to, code] of listeners) {
    test(`gets ${code} for a foreign recipient from ${from} at our ${to}`, async () => {
      const client = await connect(from, to)
      assert.equal((await tryRelay(client)).code, code)
      await client.quit()
    })
  }
})

test('nothing of all this has failed in the log', () => {
  assert.deepEqual(haraka.failures(), [])
})
