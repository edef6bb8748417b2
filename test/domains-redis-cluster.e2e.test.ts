// Domains in a Redis Cluster behind a real Haraka with two workers, and one of its nodes killed.
import assert from 'node:assert/strict'
import { after, before, it } from 'node:test'
import { Cluster } from 'ioredis'
import { type Haraka, startHaraka } from './support/haraka'
import { type RedisServer, startCluster, until } from './support/redis'
import { type Sink, startSink } from './support/sink'
import { SmtpClient } from './support/smtp-client'

const names = Array.from({ length: 8 }, (_, at) => `d${at}.test`)

let nodes: RedisServer[]
let haraka: Haraka
let hop: Sink

before(async () => {
  const { nodes: all, settings } = await startCluster()
  nodes = all
  hop = await startSink()
  const cluster = new Cluster(settings.cluster)
  for (const name of names)
    await cluster.hset(`relay-guard:domain:${name}`, { next_hop: hop.address(), tls: 'none', verify: 'none' })
  cluster.disconnect()
  const addresses = settings.cluster.map(({ host, port }) => `${host}:${port}`)
  haraka = await startHaraka({
    plugins: ['relay-guard/domains'],
    nodes: 2,
    files: {
      'relay-guard/domains.ini': '[main]\nredis = true\npostmaster = a@d0.test\n',
      'relay-guard/redis.ini': `[redis]\ntimeout = 2s\ncluster = ${addresses.join(', ')}\n`,
    },
  })
})
after(async () => {
  await haraka?.stop()
  for (const node of nodes ?? []) await node.stop()
  await hop?.close()
  assert.deepEqual(haraka?.failures() ?? [], [])
})

/** The answer to one recipient, of the null sender, by whichever worker gets the connection. */
async function ask(to: string): Promise<string> {
  const client = await SmtpClient.connect({ port: haraka.port, from: '127.43.0.1' })
  try {
    await client.ehlo()
    await client.command('MAIL FROM:<>')
    const { code, status } = await client.command(`RCPT TO:<${to}>`)
    return `${code} ${status}`
  } finally {
    client.destroy()
  }
}

it('are found on every node; with one of them gone nothing becomes foreign', async () => {
  for (const name of names)
    for (let i = 0; i < 3; i++) await until(async () => (await ask(`a@${name}`)) === '250 2.1.5', name)
  await until(async () => (await ask('a@other.test')) === '550 5.7.1', 'a foreign domain')
  await nodes[0]!.kill()
  await until(async () => (await ask('a@new.test')) === '451 4.3.0', 'a name that cannot be told')
  const answers = new Set<string>()
  for (const name of [...names, ...names]) answers.add(await ask(`a@${name}`))
  // A worker that was told of a domain serves it; one that was not cannot tell.
  assert.deepEqual(
    [...answers].filter((answer) => !['250 2.1.5', '451 4.3.0'].includes(answer)),
    [],
  )
  assert.ok(answers.has('250 2.1.5'))
})
