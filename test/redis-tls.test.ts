// Redis and its sentinels over TLS, with a private authority, client certificates, and passwords of their own.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { readRedis } from '../core/redis/config'
import { type Client, closeRedis, openRedis, whenReady, whyAway } from '../core/redis/connection'
import { PATIENCE, until } from './support/patience'
import { type Read, readText } from './support/reading'
import {
  type Certificates,
  makeCertificates,
  PASSWORD,
  SENTINEL_PASSWORD,
  startTls,
  type TlsServer,
} from './support/redis-tls'

let pem: Certificates
let redis: TlsServer
let sentinel: TlsServer
before(async () => {
  pem = makeCertificates()
  redis = await startTls(pem)
  sentinel = await startTls(pem, redis.port)
})
after(async () => {
  await sentinel?.stop()
  await redis?.stop()
  pem?.remove()
})

const read = (lines: string[]): Read<ReturnType<typeof readRedis>> => {
  const files = [pem.ca, pem.otherCa, pem.server.key, pem.client.cert, pem.client.key]
  const texts = Object.fromEntries(files.map((file) => [file, readFileSync(file, 'latin1')]))
  return readText('redis.ini', `[redis]\n${lines.join('\n')}\n`, readRedis, {
    ...texts,
    'config/redis.ini': '',
  })
}
const identity = () => [`tls_ca = ${pem.ca}`, `tls_cert = ${pem.client.cert}`, `tls_key = ${pem.client.key}`]
const alone = () => [`port = ${redis.port}`, `password = ${PASSWORD}`, 'tls = true']
const underSentinel = () => [
  `sentinel = 127.0.0.1:${sentinel.port}`,
  `sentinel_password = ${SENTINEL_PASSWORD}`,
  'sentinel_tls = true',
  `password = ${PASSWORD}`,
  'tls = true',
]

async function withClient(lines: string[], use: (client: Client) => Promise<string>): Promise<string> {
  const { value, errors } = read(lines)
  assert.deepEqual(errors, [])
  const client = openRedis(value)
  try {
    return await use(client)
  } finally {
    await closeRedis(client)
  }
}

const reach = (lines: string[]) =>
  withClient(lines, async (client) => {
    await whenReady(client, PATIENCE)
    return client.ping()
  })

/** Why it cannot be reached. */
const failure = (lines: string[]) =>
  withClient(lines, async (client) => {
    await until(() => whyAway(client) !== 'not connected')
    assert.notEqual(client.status, 'ready')
    return whyAway(client)
  })

test('a Redis with a private authority, a client certificate and a password is reached', async () =>
  assert.equal(await reach([...alone(), ...identity()]), 'PONG'))

test('so is one under a Sentinel that has a password and TLS of its own', async () =>
  assert.equal(await reach([...underSentinel(), ...identity()]), 'PONG'))

test('what is missing or wrong is said, and nothing is reached', async () => {
  const [ca, cert, key] = identity() as [string, string, string]
  assert.match(await failure([...alone(), ca]), /certificate required|handshake|ECONNRESET|closed/i)
  assert.match(await failure([...alone(), cert, key]), /unable to|self-signed|issuer/i)
  const other = `tls_ca = ${pem.otherCa}`
  assert.match(await failure([...alone(), other, cert, key]), /unable to|self-signed|issuer/i)
  const withoutTls = underSentinel().filter((line) => line !== 'sentinel_tls = true')
  assert.match(await failure([...withoutTls, ...identity()]), /sentinel/i)
  const withoutPassword = underSentinel().filter((line) => !line.startsWith('sentinel_password'))
  assert.match(await failure([...withoutPassword, ...identity()]), /sentinel/i)
})

test('a file that is not what it should be is a config error', () => {
  const errors = (...lines: string[]) => read(['tls = true', ...lines]).errors.join('\n')
  assert.match(errors('tls_ca = /nowhere.pem'), /^redis\.ini \[redis\] tls_ca: cannot be read: /)
  assert.match(errors(`tls_ca = ${pem.client.key}`), /tls_ca: holds no certificate in PEM/)
  assert.match(errors(`tls_cert = ${pem.client.cert}`), /tls_cert: has no meaning without tls_key/)
  assert.match(errors(`tls_key = ${pem.client.key}`), /tls_key: has no meaning without tls_cert/)
  assert.match(
    errors(`tls_cert = ${pem.client.cert}`, `tls_key = ${pem.client.cert}`),
    /tls_key: holds no private key in PEM/,
  )
  assert.match(
    errors(`tls_cert = ${pem.client.cert}`, `tls_key = ${pem.server.key}`),
    /tls_key: does not belong to the certificate of tls_cert/,
  )
  assert.match(read([`tls_ca = ${pem.ca}`]).errors.join('\n'), /tls_ca: has no meaning without tls = true/)
})
