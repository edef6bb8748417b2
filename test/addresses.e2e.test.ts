// Where a connection comes from and to, at a real Haraka: [reject], [listener], and addresses that XCLIENT and PROXY change.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { type Haraka, installHaraka, startHaraka } from './support/haraka'
import { freePort } from './support/ports'
import { SmtpClient } from './support/smtp-client'
import { refused, said, tryRelay } from './support/tries'
import { password, startWorld, type World } from './support/world'

const plugins = ['xclient', 'auth/flat_file', 'relay-guard/acl', 'relay-guard/auth', 'relay-guard/domains']

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
