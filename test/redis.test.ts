import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { scripts } from '../core/limiter/step-script'
import { readRedis } from '../core/redis/config'
import { closeRedis, openRedis, whenReady } from '../core/redis/connection'
import { readBase } from '../core/redis/endpoint'
import { loadScript } from '../core/redis/script'
import { PATIENCE, until } from './support/patience'
import { readText } from './support/reading'
import { noRedis, RedisServer } from './support/redis'

let server: RedisServer

before(async () => {
  server = await RedisServer.start()
})
after(() => server.stop())

test('redis.ini means what it means to haraka-plugin-redis', () => {
  assert.deepEqual(readBase({}, {}), { host: '127.0.0.1', port: 6379 })
  const ini = {
    opts: { password: 'everywhere', database: 3, host: '10.0.0.1' },
    server: { host: '10.0.0.2', port: '6380', tls: 'true' },
    pubsub: { host: '10.0.0.3' },
  }
  const server = { host: '10.0.0.2', port: 6380, password: 'everywhere', database: 3, tls: {} }
  assert.deepEqual(readBase(ini, {}), server)
  assert.deepEqual(readBase(ini, { host: 'own', database: '5', password: '0123' }), {
    ...server,
    host: 'own',
    database: 5,
    password: '0123',
  })
  assert.deepEqual(readBase({ server: { ip: '10.0.0.4', db: 2 } }, {}), {
    host: '10.0.0.4',
    port: 6379,
    database: 2,
  })
  assert.deepEqual(readBase({ db: 7, server: { path: '/run/redis.sock' } }, {}), {
    host: '127.0.0.1',
    port: 6379,
    path: '/run/redis.sock',
    database: 7,
  })
})

test('a url says all of it', () => {
  const url = 'rediss://bob:s%40crt@redis.example:6390/4'
  assert.deepEqual(readBase({ server: { url, host: 'ignored' } }, {}), {
    host: 'redis.example',
    port: 6390,
    username: 'bob',
    password: 's@crt',
    database: 4,
    tls: {},
  })
})

test('the plugins of a process share one connection, which the last of them closes', async () => {
  const [first, second] = [openRedis(server.settings), openRedis({ ...server.settings, prefix: 'other:' })]
  assert.equal(first, second)
  await whenReady(first, PATIENCE)
  const clients = `${await server.run('CLIENT', 'LIST')}`
  assert.equal(clients.split(`name=relay-guard-${process.pid} `).length - 1, 1)
  await closeRedis(first)
  assert.equal(await second.ping(), 'PONG')
  await closeRedis(second)
  await until(() => second.status === 'end')
})

test('the database and the Unix socket of redis.ini are used', async () => {
  const path = join(server.folder, 'socket')
  const other = await RedisServer.start('--unixsocket', path)
  const client = openRedis({ ...noRedis, base: { host: '127.0.0.1', port: 1, path, database: 3 } })
  await whenReady(client, PATIENCE)
  await client.set('key', 'value', 'EX', 60)
  assert.match(`${await other.run('INFO', 'keyspace')}`, /db3:keys=1/)
  await closeRedis(client)
  await other.stop()
})

test('a connection that does not come says why, closes at once, and no command waits for it', async () => {
  const client = openRedis({ ...noRedis, base: { host: '127.0.0.1', port: 1 } })
  await assert.rejects(whenReady(client, 3_000), /ECONNREFUSED/)
  await assert.rejects(client.ping(), /enableOfflineQueue/)
  let tries = 0
  client.on('connecting', () => tries++)
  await closeRedis(client)
  assert.equal(tries, 0)
})

test('every script says what it does, and loads', async () => {
  const core = join(__dirname, '../core')
  const folders = ['limiter', 'journal'].map((name) => join(core, name))
  const files = folders.flatMap((folder) =>
    readdirSync(folder)
      .filter((name) => name.endsWith('.lua'))
      .map((name) => ({ folder, name })),
  )
  assert.deepEqual(
    files.map(({ name }) => name.slice(0, -4)).sort(),
    [...Object.keys(scripts), 'append', 'tally'].sort(),
  )
  for (const { folder, name } of files) {
    const source = readFileSync(join(folder, name), 'utf8')
    const header = source.slice(0, source.search(/^[^-]/m))
    assert.ok(header.startsWith(`-- ${name}: `), name)
    for (const part of ['KEYS', 'ARGV', 'Returns']) assert.match(header, new RegExp(`^-- ${part}`, 'm'), name)
    assert.equal(await server.run('SCRIPT', 'LOAD', source), loadScript(folder, name.slice(0, -4)).sha)
  }
})

test('an IPv6 server is reached, by address and by url', async () => {
  const six = await RedisServer.start('--bind', '127.0.0.1', '::1')
  try {
    for (const line of [`url = redis://[::1]:${six.port}/2`, `host = [::1]\nport = ${six.port}`]) {
      const { value, errors } = readText('redis.ini', `[redis]\n${line}\n`, readRedis, {
        'config/redis.ini': '',
      })
      assert.deepEqual(errors, [])
      const client = openRedis(value)
      await whenReady(client, PATIENCE)
      assert.equal(await client.ping(), 'PONG')
      await closeRedis(client)
    }
  } finally {
    await six.stop()
  }
})
