import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { FileError } from '../core/ini/files'
import { type ConfigError, parseIni, printConfigError } from '../core/ini/parse'
import { type RedisConfig, readRedis } from '../core/redis/config'

/** `own` is the text of relay-guard/redis.ini, `haraka` that of Haraka's config/redis.ini. */
function read(own: string, haraka?: string): { value: RedisConfig; errors: string[] } {
  const errors: ConfigError[] = []
  const open = (path: string) => {
    if (haraka === undefined || !path.endsWith(join('config', 'redis.ini')))
      throw new FileError('cannot be read: ENOENT', 'missing')
    return Buffer.from(haraka)
  }
  const value = readRedis({ sections: parseIni('redis.ini', own, errors), errors, open })
  return { value, errors: errors.map(printConfigError) }
}

const defaults: RedisConfig = {
  enabled: true,
  prefix: 'relay-guard:',
  timeout: 250,
  cluster: [],
  sentinel: [],
  sentinelName: 'mymaster',
  base: { host: '127.0.0.1', port: 6379 },
  log: { accepted: false, length: 20_000 },
}

test('the default file says what holds without it', () => {
  const file = join(__dirname, '../../config/relay-guard/redis.ini')
  for (const text of [readFileSync(file, 'utf8'), '[redis]\n'])
    assert.deepEqual(read(text), { value: defaults, errors: [] })
})

test('each key is read', () => {
  const { value, errors } = read(`[redis]
enabled = false
prefix = mx:
timeout = 1s
host = redis.example
port = 6380
username = haraka
password = 0123
database = 2
tls = true
[log]
accepted = yes
length = 500
`)
  assert.deepEqual(errors, [])
  assert.deepEqual(value, {
    ...defaults,
    enabled: false,
    prefix: 'mx:',
    timeout: 1000,
    base: { host: 'redis.example', port: 6380, username: 'haraka', password: '0123', database: 2, tls: {} },
    log: { accepted: true, length: 500 },
  })
})

test('clusters and sentinels are lists of hosts, each with its standard port', () => {
  assert.deepEqual(read('[redis]\ncluster = a.example, [2001:db8::1]:7000\n').value.cluster, [
    { host: 'a.example', port: 6379 },
    { host: '2001:db8::1', port: 7000 },
  ])
  const { value } = read('[redis]\nsentinel[] = 10.0.0.1\nsentinel[] = 10.0.0.2:5000\nsentinel_name = mail\n')
  assert.deepEqual(value.sentinel, [
    { host: '10.0.0.1', port: 26_379 },
    { host: '10.0.0.2', port: 5000 },
  ])
  assert.equal(value.sentinelName, 'mail')
})

describe("Haraka's config/redis.ini", () => {
  const base = (own: string, haraka: string) => {
    const { value, errors } = read(own, haraka)
    assert.deepEqual(errors, [])
    return value.base
  }

  test('says where Redis is, [server] before [opts]', () =>
    assert.deepEqual(
      base('[redis]\n', '[server]\nhost=10.0.0.5\n[opts]\nhost=10.0.0.6\npassword=x\ndb=3\n'),
      {
        host: '10.0.0.5',
        port: 6379,
        password: 'x',
        database: 3,
      },
    ))

  test('may use the older name ip, and may have faults that are none for Haraka', () =>
    assert.deepEqual(base('[redis]\n', 'nonsense here\n[server]\nip=10.0.0.5\nport=1\nport=6380\n'), {
      host: '10.0.0.5',
      port: 6380,
    }))

  test('stands behind what relay-guard/redis.ini says, key by key', () =>
    assert.deepEqual(base('[redis]\nhost = 10.0.0.9\n', '[server]\nhost=10.0.0.5\nport=6380\npassword=x\n'), {
      host: '10.0.0.9',
      port: 6380,
      password: 'x',
    }))

  test('cannot lead away from a host that relay-guard/redis.ini names', () => {
    for (const line of ['url=redis://10.0.0.5:1/2', 'path=/run/redis.sock'])
      assert.deepEqual(base('[redis]\nhost = 10.0.0.9\n', `[server]\n${line}\n`), {
        host: '10.0.0.9',
        port: 6379,
      })
  })
})

const wrong: [string, RegExp][] = [
  ['prefix = a{b}:', /redis.ini \[redis\] prefix: has a brace, allowed: /],
  ['prefix = a b', /\[redis\] prefix: is not a prefix/],
  ['timeout = 1h', /\[redis\] timeout: is out of range, allowed: 10ms to 5s/],
  ['cluster = a:b:c', /\[redis\] cluster: is not a host/],
  ['sentinel = 10.0.0.1:70000', /\[redis\] sentinel: is not a host/],
  ['cluster = a\nsentinel = b', /\[redis\] sentinel: stands beside cluster/],
  ['port = 0x10000', /\[redis\] port: is not a port, allowed: 1 to 65535/],
  ['port = 7399x', /^redis.ini \[redis\] port: is not a port, allowed: 1 to 65535$/],
  ['database = one', /\[redis\] database: is not the number of a database, allowed: 0 and above/],
  ['url = nowhere', /\[redis\]: cannot tell where Redis is, .*: the url cannot be read/],
  ['timout = 1s', /\[redis\] timout: is not a key of this section; did you mean timeout\?/],
  ['[log]\nlength = 5', /\[log\] length: is not a length, allowed: 100 to/],
  ['[logs]\nlength = 500', /\[logs\]: is not a section of this file; did you mean \[log\]\?/],
]

describe('an error is named', () => {
  for (const [line, pattern] of wrong)
    test(line.replace('\n', ', '), () => {
      const { errors } = read(`[redis]\n${line}\n`)
      assert.equal(errors.length, 1, errors.join('\n'))
      assert.match(errors[0]!, pattern)
    })

  test("also in Haraka's file, where ours cannot work with it", () => {
    const { errors } = read('[redis]\n', '[server]\nport=none\n')
    assert.match(
      errors.join(),
      /cannot tell where Redis is, by what is said in config\/redis.ini: port is not a port, allowed: 1 to 65535/,
    )
  })
})
