import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { FileError } from '../core/ini/files'
import { type ConfigError, parseIni, printConfigError } from '../core/ini/parse'
import { type RedisConfig, readRedis } from '../core/redis/config'
import { printPlace } from '../core/redis/endpoint'
import { printError } from '../core/redis/errors'

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
  [
    'host = 10.0.0.1:6380',
    /\[redis\] host: is not a host, allowed: HOST or \[IPv6\]; the port has a key of its own/,
  ],
  ['tls = flase', /\[redis\] tls: is neither true nor false/],
  ['url = nowhere', /\[redis\] url: the url cannot be read, allowed: redis:/],
  ['url = http://10.0.0.1', /\[redis\] url: the url cannot be read/],
  ['url = redis://10.0.0.1:99999', /\[redis\] url: the url cannot be read/],
  ['url = redis://10.0.0.1/one', /\[redis\] url: the url names a database that is not a number/],
  ['url = redis://a:b%1@10.0.0.1', /\[redis\] url: the url has a % that begins no %XX/],
  ['url = redis://:a#b@10.0.0.1', /\[redis\] url: the url /],
  ['url = redis://10.0.0.1?tls=true', /\[redis\] url: the url has an option behind its \? that is not known/],
  ['url = unix://', /\[redis\] url: the url /],
  ['cluster = a\ndatabase = 3', /\[redis\] cluster: has no meaning with a database other than 0/],
  ['cluster = a\nurl = redis://h/3', /\[redis\] cluster: has no meaning with a database other than 0/],
  ['sentinel_name = my master', /\[redis\] sentinel_name: is not the name of a master, allowed: letters/],
  ['path = run/redis.sock', /\[redis\] path: is not a socket, allowed: an absolute path without @/],
  ['tls = true\ntls_ca = /ca.pem', /\[redis\] tls_ca: cannot be read: ENOENT/],
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

describe('a login where a server is named is an error that repeats nothing of it', () => {
  const places = [
    'SECRET@h',
    'mx:SECRET@h',
    'SECRET@127.0.0.1:1',
    'redis://mx:SECRET@10.0.0.1/',
    'a, SECRET@h',
  ]
  const sockets = ['mx:SECRET@/run/redis.sock', '/run/mx:SECRET@redis.sock', '/SECRET@/run/redis.sock']
  const keys = ['host', 'path', 'cluster', 'cluster[]', 'sentinel', 'sentinel[]', 'sentinel_name']
  const lines = [...places, ...sockets].flatMap((text) => keys.map((key) => `${key} = ${text}`))
  lines.push('url = unix:/mx:SECRET@/run/redis.sock', 'url = unix:mx:SECRET@/run/redis.sock')
  for (const line of lines)
    test(line, () => {
      const { value, errors } = read(`[redis]\n${line}\n`)
      assert.notEqual(errors.length, 0)
      assert.doesNotMatch(errors.join() + printPlace(value), /SECRET/)
    })
  for (const line of lines.filter((each) => /^(host|path|url) /.test(each)))
    test(`${line}, in Haraka's file`, () => {
      const { value, errors } = read('[redis]\n', `[server]\n${line}\n`)
      assert.notEqual(errors.length, 0)
      assert.doesNotMatch(errors.join() + printPlace(value), /SECRET/)
    })
})

test('what is printed of an error has nothing of what stands before an @', () => {
  const texts: [string, string][] = [
    ['connect ENOENT redis://mx:SECRET@10.0.0.1/', 'connect ENOENT …@10.0.0.1/'],
    ['connect ENOENT mx:SECRET@/run/redis.sock', 'connect ENOENT …@/run/redis.sock'],
    ['getaddrinfo ENOTFOUND SECRET@x', 'getaddrinfo ENOTFOUND …@x'],
    ['(SECRET@SECRET@x) and "SECRET@y"', '(…@x) and "…@y"'],
    ['ERR one\r\nred: two', 'ERR one red: two'],
    ['connect ECONNREFUSED 127.0.0.1:6379', 'connect ECONNREFUSED 127.0.0.1:6379'],
  ]
  for (const [message, shown] of texts) assert.equal(printError(new Error(message)), shown)
})

describe('where Redis is, by each way to say it', () => {
  const own = (lines: string, haraka?: string) => {
    const { value, errors } = read(`[redis]\n${lines}\n`, haraka)
    assert.deepEqual(errors, [], lines)
    return value.base
  }
  const here = { host: '127.0.0.1', port: 6379 }
  const ways: [string, object][] = [
    ['url = redis://[::1]:6379/2', { host: '::1', port: 6379, database: 2 }],
    ['url = redis://[2001:db8::1]', { host: '2001:db8::1', port: 6379 }],
    ['host = [::1]', { host: '::1', port: 6379 }],
    ['host = ::1\nport = 7000', { host: '::1', port: 7000 }],
    ['url = redis://redis.example', { host: 'redis.example', port: 6379 }],
    ['url = redis://redis.example/', { host: 'redis.example', port: 6379 }],
    ['url = redis://', here],
    ['url = redis:///3', { ...here, database: 3 }],
    ['url = redis://redis.example?db=4', { host: 'redis.example', port: 6379, database: 4 }],
    ['url = rediss://redis.example:6380', { host: 'redis.example', port: 6380, tls: {} }],
    ['url = rediss://redis.example\ntls = false', { host: 'redis.example', port: 6379, tls: {} }],
    ['url = redis://redis.example\ntls = on', { host: 'redis.example', port: 6379, tls: {} }],
    ['url = redis://bob:%40%2F%23%20%3B@h', { host: 'h', port: 6379, username: 'bob', password: '@/# ;' }],
    [
      'url = redis://:secret@h\nusername = bob',
      { host: 'h', port: 6379, username: 'bob', password: 'secret' },
    ],
    ['url = redis://h\npassword = 100%25', { host: 'h', port: 6379, password: '100%25' }],
    ['username = mx%1\npassword = a%zz = b', { ...here, username: 'mx%1', password: 'a%zz = b' }],
    ['url = unix:/run/redis.sock', { ...here, path: '/run/redis.sock' }],
    ['url = unix:///run/redis.sock?db=2', { ...here, path: '/run/redis.sock', database: 2 }],
    ['url = unix://bob:s%40@/run/a%20b', { ...here, path: '/run/a b', username: 'bob', password: 's@' }],
    ['url = redis://h\nhost = other\nport = 1\npath = /x', { host: 'h', port: 1 }],
  ]
  for (const [lines, base] of ways)
    test(lines.replaceAll('\n', ', '), () => {
      assert.deepEqual(own(lines), base)
      // The same lines say the same in Haraka's file.
      const { value, errors } = read('[redis]\n', `[server]\n${lines}\n`)
      assert.deepEqual([value.base, errors], [base, []])
    })

  test("a url of ours is not mixed with the place in Haraka's file, only with who we are there", () =>
    assert.deepEqual(own('url = redis://h', '[server]\nhost=other\nport=7000\nip=x\npassword=p ; q\n'), {
      host: 'h',
      port: 6379,
      password: 'p ; q',
    }))

  test('one error of many is no reason to call the other keys unknown', () => {
    const { errors } = read('[redis]\nport = 7399x\npassword = x\nurl = nowhere\ntls = yes\n')
    assert.equal(errors.length, 2, errors.join('\n'))
  })
})
