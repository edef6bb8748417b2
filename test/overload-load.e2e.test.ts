// Too many connections, a late event loop, too much memory: strangers are refused first, at connect or on port 587 at MAIL.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, type TestContext, test } from 'node:test'
import { type Haraka, installHaraka, startHaraka } from './support/haraka'
import { counted } from './support/journal'
import { password, redisIni } from './support/limits'
import { until } from './support/patience'
import { RedisServer } from './support/redis'
import { type Reply, SmtpClient } from './support/smtp-client'

const proxy = '127.99.9.9'
const relay = '127.30.0.1'
const MARKS = {
  min_free: 'off',
  min_free_inodes: 'off',
  max_files: 'off',
  max_connections: 'off',
  max_delay: 'off',
  max_memory: 'off',
}

/** overload.ini with these marks, all others off. */
function ini(marks: Partial<typeof MARKS>): string {
  const { min_free, min_free_inodes, max_files, ...load } = { ...MARKS, ...marks }
  return `[disk]\nmin_free = ${min_free}\nmin_free_inodes = ${min_free_inodes}\n[queue]\nmax_files = ${max_files}\n[load]\n${Object.entries(
    load,
  )
    .map(([key, value]) => `${key} = ${value}\n`)
    .join('')}`
}

/** Takes mail for everybody; MAIL FROM:<block@…> keeps the event loop busy, <hoard@…> takes memory, <free@…> gives back. */
const busy = `
let hoard = []
let timer
exports.register = function () {
  this.register_hook('mail', 'work', 90)
  this.register_hook('rcpt', 'take')
  this.register_hook('queue', 'take')
  this.register_hook('queue_outbound', 'take')
}
exports.take = (next) => next(OK)
exports.work = (next, connection, [{ user }]) => {
  const spin = () => { for (const end = Date.now() + 300; Date.now() < end; ); }
  if (user === 'block') timer = setInterval(spin, 320)
  if (user === 'rest') clearInterval(timer)
  next()
}
`

async function start(
  marks: Partial<typeof MARKS>,
  rest: { redis?: RedisServer; nodes?: number } = {},
): Promise<Haraka> {
  const usual = readFileSync(join(await installHaraka(), 'config', 'connection.ini'), 'utf8')
  return startHaraka({
    plugins: ['xclient', 'auth/flat_file', 'relay-guard/acl', 'relay-guard/overload', 'busy'],
    ...(rest.nodes !== undefined && { nodes: rest.nodes }),
    localPlugins: { busy },
    files: {
      'connection.ini': usual.replace('hosts[] =', `hosts[] = ${proxy}`),
      'auth_flat_file.ini': `[core]\nmethods=PLAIN\nconstrain_sender=false\n[users]\nann=${password}\n`,
      'relay-guard/acl.ini': '[relay]\n127.30.0.0/16 = branch\n[reject]\n127.66.0.1\n',
      'relay-guard/overload.ini': ini(marks),
      ...(rest.redis && { 'relay-guard/redis.ini': redisIni(rest.redis, 'prefix = mx:\n') }),
    },
  })
}

const open: SmtpClient[] = []
const closeAll = () => {
  for (const client of open.splice(0)) client.destroy()
}

async function connect({ port }: Haraka, from: string): Promise<Reply> {
  const client = await SmtpClient.connect({ port, from })
  if (client.greeting.code === 220) open.push(client)
  else client.destroy()
  return client.greeting
}

/** On port 587 of this server, as a proxy tells it. */
async function submission({ port }: Haraka, ip: string, user?: string): Promise<SmtpClient> {
  const first = `PROXY TCP4 ${ip} 127.0.0.1 4321 587\r\n`
  const client = await SmtpClient.connect({ port, from: proxy, first })
  open.push(client)
  assert.equal(client.greeting.code, 220)
  await client.ehlo()
  if (user) assert.equal((await client.authPlain(user, password)).code, 235)
  return client
}

const MAIL = 'MAIL FROM:<a@b.test>'
const said = ({ code, status }: Reply) => `${code} ${status}`
const BUSY = '421 4.3.2'

describe('max_connections', () => {
  let haraka: Haraka
  let redis: RedisServer
  before(async () => {
    redis = await RedisServer.start()
    haraka = await start({ max_connections: '10' }, { redis })
  })
  after(async () => {
    await haraka?.stop()
    await redis?.stop()
  })

  const overloadOf = () => redis.run('HGET', `mx:node:${hostname()}:${haraka.pid}`, 'overload')

  test('refuses strangers first, then relay clients, and lets each in again at 80 %', async (t) => {
    t.after(closeAll)
    for (let n = 1; n <= 10; n++) assert.equal((await connect(haraka, `127.0.2.${n}`)).code, 220)
    const refused = await connect(haraka, '127.0.2.11')
    assert.equal(said(refused), BUSY)
    assert.match(refused.text, /^4\.3\.2 Too many connections, try again later \(id [0-9A-F]{8}\)$/)
    for (let n = 1; n <= 2; n++) assert.equal((await connect(haraka, `127.30.1.${n}`)).code, 220)
    assert.equal(said(await connect(haraka, relay)), BUSY)
    await haraka.waitForLog(/overload: connections 11 \(max 10\): strangers are refused with 421/)
    await haraka.waitForLog(/overload: connections 13 \(max 10\): everybody is refused with 421/)
    await until(async () => /^connections 1\d \(max 10\)$/.test(String(await overloadOf())), 'the node key')
    // 9 are left: relay clients come in again, strangers do not.
    for (const client of open.splice(0, 3)) await client.quit()
    await haraka.waitForLog(
      /overload: connections \d+ \(max 10\): \[relay\] clients and users may come again/,
    )
    assert.equal((await connect(haraka, relay)).code, 220)
    assert.equal(said(await connect(haraka, '127.0.2.12')), BUSY)
    for (const client of open.splice(0, 2)) await client.quit()
    await haraka.waitForLog(/overload over: connections 8 \(max 10\)/)
    assert.equal((await connect(haraka, '127.0.2.13')).code, 220)
    await until(async () => (await overloadOf()) === '', 'the node key')
    const stats = () => counted({ redis }, 'connection.overload')
    await until(async () => (await stats()) === 3, 'the statistics')
    assert.match(
      haraka.output(),
      /decision id=\w+ outcome=connection\.overload rule="overload\.ini \[load\] max_connections" ip=127\.0\.2\.11 detail="connections 11 \(max 10\)" reply="421 4\.3\.2 Too many connections, try again later"/,
    )
  })

  test('on port 587 is asked at MAIL, and users who have logged in count as relay clients do', async (t) => {
    t.after(closeAll)
    await until(async () => (await overloadOf()) === '')
    for (let n = 1; n <= 9; n++) assert.equal((await connect(haraka, `127.0.3.${n}`)).code, 220)
    const branch = await submission(haraka, relay)
    // Above the mark a connection on port 587 is let in all the same: who it is comes later.
    const user = await submission(haraka, '127.0.3.11', 'ann')
    const stranger = await submission(haraka, '127.0.3.12')
    assert.equal((await user.command(MAIL)).code, 250)
    assert.equal((await branch.command(MAIL)).code, 250)
    // Core asks for a login there, before any plugin.
    assert.equal((await stranger.command(MAIL)).code, 550)
    const more = await submission(haraka, relay)
    assert.equal(said(await more.command(MAIL)), BUSY)
    assert.equal((await more.reply()).code, 0)
    await user.command('RSET')
    assert.equal(said(await user.command(MAIL)), BUSY)
    assert.equal(said(await connect(haraka, '127.0.3.20')), BUSY)
  })

  test('judges who PROXY and XCLIENT name, counts a connection once, and [reject] comes first', async (t) => {
    t.after(closeAll)
    await until(async () => (await overloadOf()) === '')
    const through = async (ip: string) => {
      const first = `PROXY TCP4 ${ip} 127.0.0.1 4321 25\r\n`
      const client = await SmtpClient.connect({ port: haraka.port, from: proxy, first })
      open.push(client)
      return client
    }
    const clients: SmtpClient[] = []
    for (let n = 1; n <= 10; n++) clients.push(await through(`127.0.4.${n}`))
    assert.deepEqual([...new Set(clients.map(({ greeting }) => greeting.code))], [220])
    assert.equal(said((await through('127.0.4.11')).greeting), BUSY)
    const branch = await through(relay)
    assert.equal(branch.greeting.code, 220)
    assert.equal((await through('127.66.0.1')).greeting.code, 554)
    closeAll()
    await haraka.waitForLog(/overload over: connections 0 \(max 10\)/)
    for (let n = 1; n <= 10; n++)
      assert.equal((await connect(haraka, n <= 2 ? '127.0.0.1' : `127.0.4.${n}`)).code, 220)
    assert.equal(said(await connect(haraka, '127.0.4.11')), BUSY)
    const [first, second] = open
    assert.equal((await first!.command(`XCLIENT ADDR=${relay}`)).code, 220)
    assert.equal(said(await second!.command('XCLIENT ADDR=127.0.4.99')), BUSY)
  })

  test('is another one after a reload, with the same connections open', async (t) => {
    t.after(closeAll)
    await until(async () => (await overloadOf()) === '')
    for (let n = 1; n <= 8; n++) assert.equal((await connect(haraka, `127.0.5.${n}`)).code, 220)
    haraka.write('relay-guard/overload.ini', ini({ max_connections: '7' }))
    await haraka.waitForLog(/overload\.ini was read again/)
    await haraka.waitForLog(/overload: connections 8 \(max 7\): strangers are refused/)
    assert.equal(said(await connect(haraka, '127.0.5.9')), BUSY)
    haraka.write('relay-guard/overload.ini', '[load]\nmax_connections = many\n')
    await haraka.waitForLog(/overload\.ini \[load\] max_connections: "many" is not allowed here/)
    assert.equal(said(await connect(haraka, '127.0.5.10')), BUSY)
    assert.deepEqual(haraka.failures(), [])
  })
})

test('an event loop that is late refuses strangers, and lets them in again when it has caught up', async (t) => {
  const haraka = await start({ max_delay: '250ms' })
  t.after(() => haraka.stop())
  t.after(closeAll)
  const client = await SmtpClient.connect({ port: haraka.port, from: relay })
  t.after(() => client.destroy())
  await client.ehlo()
  await client.command('MAIL FROM:<block@b.test>')
  await haraka.waitForLog(/overload: delay \d+ms \(max 250ms\): \S+ (?:is|are) refused with 421/)
  const refused = await connect(haraka, '127.0.6.1')
  assert.equal(said(refused), BUSY)
  assert.match(refused.text, /Too busy, try again later/)
  await client.command('RSET')
  await client.command('MAIL FROM:<rest@b.test>')
  await haraka.waitForLog(/overload over: delay \d+ms \(max 250ms\)/)
  assert.equal((await connect(haraka, '127.0.6.2')).code, 220)
})

test('memory above its mark refuses strangers, and everybody above 1.2 times', async (t) => {
  const haraka = await start({ max_memory: '1M' })
  t.after(() => haraka.stop())
  await haraka.waitForLog(/overload: memory \d+M \(max 1M\): everybody is refused with 421/)
  for (const from of ['127.0.7.1', relay]) assert.equal(said(await connect(haraka, from)), BUSY)
  const user = await submission(haraka, '127.0.7.2', 'ann')
  t.after(closeAll)
  assert.equal(said(await user.command(MAIL)), BUSY)
})

test('workers have each their own connections and states, and tell so', async (t: TestContext) => {
  const haraka = await start({ max_connections: '5' }, { nodes: 2 })
  t.after(() => haraka.stop())
  t.after(closeAll)
  const greetings: number[] = []
  for (let n = 1; n <= 14; n++) greetings.push((await connect(haraka, `127.0.8.${n}`)).code)
  assert.ok(greetings.filter((code) => code === 220).length <= 10)
  assert.ok(greetings.includes(421))
  await haraka.waitForLog(/overload: worker \d+: connections 6 \(max 5\): strangers are refused with 421/)
  assert.deepEqual(haraka.failures(), [])
})

test('a disk that is short is told once for all workers, and each of them refuses', async (t: TestContext) => {
  const haraka = await start({ min_free: '8000000G' }, { nodes: 2 })
  t.after(() => haraka.stop())
  t.after(closeAll)
  await haraka.waitForLog(/overload: disk [\d.]+[GM] free \(min 8000000G\): mail is refused with 452/)
  for (let n = 1; n <= 6; n++) {
    const from = n % 2 ? `127.0.9.${n}` : relay
    await until(async () => {
      const client = await SmtpClient.connect({ port: haraka.port, from })
      await client.ehlo()
      const reply = await client.command(MAIL)
      client.destroy()
      return said(reply) === '452 4.3.1'
    })
  }
  assert.equal(haraka.output().match(/overload: disk/g)?.length, 1)
  assert.deepEqual(haraka.failures(), [])
})
