import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { scripts } from '../core/limiter/step-script'
import { closeRedis, openRedis, whenReady } from '../core/redis/connection'
import { readBase } from '../core/redis/endpoint'
import { noRedis, RedisServer, until } from './support/redis'

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
  await whenReady(first, 5000)
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
  await whenReady(client, 5000)
  await client.set('key', 'value', 'EX', 60)
  assert.match(`${await other.run('INFO', 'keyspace')}`, /db3:keys=1/)
  await closeRedis(client)
  await other.stop()
})

test('a connection that does not come says why, closes at once, and no command waits for it', async () => {
  const client = openRedis({ ...noRedis, base: { host: '127.0.0.1', port: 1 } })
  await assert.rejects(whenReady(client, 300), /ECONNREFUSED/)
  const start = performance.now()
  await assert.rejects(client.ping())
  await closeRedis(client)
  assert.ok(performance.now() - start < 700)
})

test('every script says what it does, and loads', async () => {
  const folder = join(__dirname, '../core/limiter')
  const names = readdirSync(folder).filter((name) => name.endsWith('.lua'))
  assert.deepEqual(
    names.sort(),
    Object.keys(scripts)
      .map((name) => `${name}.lua`)
      .sort(),
  )
  for (const name of names) {
    const source = readFileSync(join(folder, name), 'utf8')
    const header = source.slice(0, source.search(/^[^-]/m))
    assert.ok(header.startsWith(`-- ${name}: `), name)
    for (const part of ['KEYS', 'ARGV', 'Returns']) assert.match(header, new RegExp(`^-- ${part} `, 'm'))
  }
  for (const { source, sha } of Object.values(scripts)) {
    assert.equal(await server.run('SCRIPT', 'LOAD', source), sha)
  }
})
