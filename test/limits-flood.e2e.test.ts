// What limits cost a real Haraka and its Redis: a whole session, and a flood.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Limiter } from '../core/limiter'
import type { Haraka } from './support/haraka'
import { makeLimiter, untilRedis } from './support/limiter'
import {
  codes,
  each,
  only,
  sessionFrom,
  startLimits,
  tryConnect,
  tryMail,
  untilRedisCounts,
} from './support/limits'
import { until } from './support/patience'
import { RedisServer } from './support/redis'
import { SmtpClient } from './support/smtp-client'
import { cpuOf, hammer, type Watch, watchRedis } from './support/watch'

const limits = [
  '[connections per ip]\nlimit = 1000/1h\n127.81.0.0/16 = 2/1h\n',
  '[connections per network]\nlimit = 100000/1h\n',
  '[concurrent connections per ip]\nlimit = 50\nblock = 10m\n127.82.0.1 = 1\n',
  '[messages per ip]\nlimit = 1000/1h\n127.83.0.1 = 2/1h\n',
  '[recipients per ip]\nlimit = 1000/1h\n',
  '[recipients per sender]\nlimit = 1000/1h\n',
  '[recipients per recipient]\nlimit = 1000/1h\n',
  '[bytes per ip]\nlimit = 1G/1h\n',
  only('failed logins per ip', '127.84.0.1 = 5/1h'),
].join('')

/** After our look at this hook, before DNS. */
const looks = `
exports.register = function () { this.register_hook('lookup_rdns', 'look', 50) }
exports.look = function (next, { remote }) {
  this.lognotice('looking up ' + remote.ip)
  next()
}
`

let redis: RedisServer
let haraka: Haraka
let watch: Watch
before(async () => {
  redis = await RedisServer.start()
  haraka = await startLimits({ limits, redis, before: ['looks'], localPlugins: { looks } })
  // The scripts are known from here on.
  await untilRedisCounts(haraka, redis)
  await session('127.80.0.9')
  watch = await watchRedis(redis)
})
after(async () => {
  watch?.close()
  await haraka?.stop()
  await redis?.stop()
})

async function session(from: string) {
  const client = await sessionFrom(haraka, from)
  const { dot } = await client.deliver({ from: 'a@x.pass.test', to: ['b@rcpt.test'] })
  await client.quit()
  assert.equal(dot?.code, 250)
}

const logged = (pattern: RegExp): number => haraka.output().match(new RegExp(pattern, 'g'))?.length ?? 0

/** A question looks for blocks, too; what is given back does not. */
const isQuestion = (command: string): boolean => command.includes(':block:{')

test('a session with six kinds of limits asks Redis when the client connects, and for each new recipient', async () => {
  const asked: number[][] = []
  const one = async (from: string) => {
    const take = async () =>
      (await watch.take()).filter(
        (command) =>
          isQuestion(command) && (command.includes(`{ip:${from}}`) || command.includes('{recipient:')),
      ).length
    const client = await SmtpClient.connect({ port: haraka.port, from })
    const counts = [await take()]
    for (const line of [
      'EHLO client.example',
      'MAIL FROM:<a@x.pass.test> SIZE=50',
      `RCPT TO:<b${from}@rcpt.test>`,
      'DATA',
    ]) {
      await client.command(line)
      counts.push(await take())
    }
    assert.equal((await client.command('Subject: x\r\n\r\nx\r\n.')).code, 250)
    counts.push(await take())
    await client.quit()
    asked.push(counts)
    return `${counts}`
  }
  // A machine that is busy for a second between two commands gives back in between, and must ask again.
  let number = 1
  await until(async () => (await one(`127.80.0.${number++}`)) === '1,0,0,1,0,0').catch(() => {
    assert.fail(JSON.stringify(asked))
  })
})

describe('an address over its limit', () => {
  const from = '127.81.0.1'
  /** The first refusal, and one that was on its way beside it. */
  const FIRST = 2

  test('is refused without Redis, DNS, or a line in the log each time, and others are let in', async () => {
    assert.deepEqual(codes(await each(3, () => tryConnect(haraka, from))), [220, 220, 421])
    await until(async () => (await watch.take()).length === 0)
    const lines = logged(/decision .*connection\.limited/)
    const start = performance.now()
    const flood = hammer(haraka.port, from, 200)
    await session('127.80.0.2')
    const said = await flood
    assert.ok(said.every((text) => /^421 4\.7\.0 Too many connections from 127\.81\.0\.1 .*\r\n$/.test(text)))
    const about = (await watch.take()).filter((command) => isQuestion(command) && command.includes(from))
    assert.ok(about.length <= FIRST, about.join('\n'))
    // Those that were let in, and the first refusals: the limiter and DNS are asked side by side.
    assert.ok(logged(/looking up 127\.81\.0\.1/) <= 2 + FIRST)
    const seconds = (performance.now() - start) / 1000
    assert.ok(logged(/decision .*connection\.limited/) - lines <= seconds + 3)
  })

  test('costs no more after thousands of tries', async () => {
    const cost = async () => {
      const before = cpuOf(haraka.pid)
      await hammer(haraka.port, from, 400, 400)
      return cpuOf(haraka.pid) - before
    }
    /** What else the machine does costs time, too: the least of some tries is what it takes. */
    const least = async () => Math.min(await cost(), await cost(), await cost())
    await cost()
    const early = await least()
    await hammer(haraka.port, from, 3500, 500)
    const late = await least()
    assert.ok(late < 3 * Math.max(early, 50), `${early} ms of CPU early, ${late} ms late`)
  })

  test('costs Redis nothing either where it is one of many', async () => {
    const addresses = Array.from({ length: 40 }, (_, n) => `127.81.1.${n + 1}`)
    const first = await Promise.all(addresses.map((ip) => each(3, () => tryConnect(haraka, ip))))
    for (const replies of first) assert.deepEqual(codes(replies), [220, 220, 421])
    await until(async () => (await watch.take()).length === 0)
    const tries = 10
    const said = (await Promise.all(addresses.map((ip) => hammer(haraka.port, ip, tries)))).flat()
    assert.equal(
      said.filter((text) => text.startsWith('421 4.7.0 Too many')).length,
      addresses.length * tries,
    )
    const asked = (await watch.take()).filter(
      (command) => isQuestion(command) && command.includes('127.81.1.'),
    )
    assert.deepEqual(asked, [])
  })

  test('with too many open, and blocked for that, is as cheap', async () => {
    const blocked = '127.82.0.1'
    const open = await sessionFrom(haraka, blocked)
    await watch.take()
    const said = await hammer(haraka.port, blocked, 200, 50)
    assert.ok(said.every((text) => text.startsWith('421 4.7.0 ')))
    const about = (await watch.take()).filter((command) => command.includes(blocked))
    // The first fifty come side by side, before any is refused: each asks three times, as a place may be given back, and may
    // set the block in two commands.
    assert.ok(about.length <= 5 * 50 + 2 * FIRST, `${about.length}: ${about.slice(-5).join('\n')}`)
    open.destroy()
  })
})

describe('from another process', () => {
  let limiter: Limiter
  before(async () => {
    const watched = makeLimiter(redis.settings)
    limiter = watched.limiter
    await untilRedis(watched)
  })
  after(() => limiter?.close())

  const lets = (from: string) => async () => (await tryConnect(haraka, from)).code === 220

  test('block shuts an address out at once, and unblock lets it in within five seconds', async () => {
    const subject = { scope: 'ip', subject: '127.80.1.1' }
    await limiter.block(subject, 600_000, 'by hand', 'test')
    const { code, text } = await tryConnect(haraka, subject.subject)
    assert.equal(code, 421, text)
    assert.match(text, /127\.80\.1\.1 is blocked \(by hand\), try again in (5\d\d|600) s/)
    await limiter.unblock(subject)
    await until(lets(subject.subject), 'unblock')
  })

  test('reset forgets what was counted within five seconds', async () => {
    const subject = { scope: 'ip', subject: '127.83.0.1' }
    const replies = await each(3, () => tryMail(haraka, '127.83.0.1'))
    assert.deepEqual(codes(replies), [250, 250, 450])
    await limiter.reset(subject)
    await until(async () => (await tryMail(haraka, '127.83.0.1')).code === 250, 'reset')
  })
})

test('recipients that something refuses after us leave no key, however many are guessed', async () => {
  const client = await sessionFrom(haraka, '127.80.0.5')
  const replies = await client.pipeline([
    'MAIL FROM:<a@x.pass.test>',
    ...Array.from({ length: 50 }, (_, i) => `RCPT TO:<nobody@guess${i}.test>`),
    'RCPT TO:<b@guess.test>',
    'RSET',
  ])
  assert.deepEqual(codes(replies), [250, ...Array<number>(50).fill(550), 250, 250])
  await client.quit()
  const keys = async (name: string) =>
    [await redis.run('KEYS', `relay-guard:rate:{recipient:${name}*`)].flat().length
  await until(async () => (await keys('nobody@')) === 0, 'nothing left')
  assert.equal(await keys('b@guess.test'), 1)
})

test('every key has an end but the log, which has a length', async () => {
  const client = redis.client()
  try {
    const keys = await client.keys('*')
    const endless: string[] = []
    // -2: its end has come meanwhile.
    for (const key of keys) if ((await client.pttl(key)) === -1) endless.push(key)
    assert.deepEqual(endless, ['relay-guard:log'])
    assert.ok(keys.some((key) => key.startsWith('relay-guard:rate:{ip:127.80.0.1}:')))
  } finally {
    client.disconnect()
  }
  assert.deepEqual(haraka.failures(), [])
})
