// A Haraka with relay-guard/limits that takes mail for every mailbox but those that say how they are refused.
import { setTimeout as sleep } from 'node:timers/promises'
import { type Haraka, type HarakaOptions, startHaraka } from './haraka'
import { until } from './patience'
import type { RedisServer } from './redis'
import { type Reply, SmtpClient } from './smtp-client'

/**
 * Local parts: `nobody` is refused for good, `later` for now, both after our hook. A message that says `spam` is
 * refused, and one to `slow` takes a while to be stored. Domains under pass.test pass SPF.
 */
const mailbox = `
exports.register = function () {
  this.register_hook('mail', 'spf')
  this.register_hook('rcpt', 'take')
  this.register_hook('rcpt_ok', 'refuse', 90)
  this.register_hook('data_post', 'read', 90)
  this.register_hook('queue', 'store')
  this.register_hook('queue_outbound', 'store')
}
exports.spf = (next, { transaction }, [{ host }]) => {
  if (/(^|\\.)pass\\.test$/.test(host))
    transaction.results.add({ name: 'spf' }, { scope: 'mfrom', result: 'Pass', domain: host })
  next()
}
exports.take = (next) => next(OK)
exports.refuse = (next, connection, { user }) =>
  user === 'nobody' ? next(DENY, '5.1.1 No such mailbox') : user === 'later' ? next(DENYSOFT, '4.2.1 Later') : next()
exports.read = (next, { transaction }) => (/spam/.test(transaction.header.get('subject')) ? next(DENY) : next())
exports.store = function (next, connection) {
  if (connection.transaction.rcpt_to[0].user !== 'slow') return next(OK)
  connection.lognotice(this, 'storing slowly')
  setTimeout(() => {
    connection.lognotice(this, 'stored slowly')
    next(OK)
  }, 300)
}
`

const flatFile = '[core]\nmethods=PLAIN,LOGIN,CRAM-MD5\nconstrain_sender=false\n[users]\n'
export const password = 'correct horse'
const users = ['anna', 'bert', 'carl', 'dora', 'emil', 'Fred', 'gina', 'hans@users.test']

export interface LimitsOptions extends Partial<HarakaOptions> {
  /** The text of limits.ini. */
  limits: string
  redis?: RedisServer
  /** Of redis.ini. */
  timeout?: string
  /** More lines of config/plugins, before ours. */
  before?: string[]
}

/** A Redis that is only late is no failure, unless `timeout` says so: counting would move to memory and back. */
export const redisIni = (redis: RedisServer, more = '', timeout = '5s'): string =>
  `[redis]\nhost = 127.0.0.1\nport = ${redis.port}\ntimeout = ${timeout}\n${more}`

/** [relay] clients are those of 127.30.0.0/16. */
export function startLimits({
  limits,
  redis,
  timeout,
  before = [],
  ...rest
}: LimitsOptions): Promise<Haraka> {
  return startHaraka({
    plugins: [...before, 'xclient', 'auth/flat_file', 'relay-guard/acl', 'relay-guard/limits', 'mailbox'],
    ...rest,
    localPlugins: { mailbox, ...rest.localPlugins },
    files: {
      'relay-guard/acl.ini': '[relay]\n127.30.0.0/16 = branch\n',
      'relay-guard/limits.ini': limits,
      'auth_flat_file.ini': flatFile + users.map((user) => `${user}=${password}\n`).join(''),
      ...(redis && { 'relay-guard/redis.ini': redisIni(redis, '', timeout) }),
      ...rest.files,
    },
  })
}

/** A session from this address, ready for MAIL; logged in as `user`. Throws when it is refused. */
export async function sessionFrom({ port }: Haraka, from: string, user?: string): Promise<SmtpClient> {
  const client = await SmtpClient.connect({ port, from })
  if (client.greeting.code !== 220) throw new Error(`${from}: ${client.greeting.lines.join(' ')}`)
  await client.ehlo()
  if (!user) return client
  const { code, text } = await client.authPlain(user, password)
  if (code !== 235) throw new Error(`${user} could not log in: ${code} ${text}`)
  return client
}

/** The answer to MAIL in a session of its own. */
export async function tryMail(haraka: Haraka, from: string, sender = 'a@sender.test', user?: string) {
  const client = await sessionFrom(haraka, from, user)
  const reply = await client.command(`MAIL FROM:<${sender}>`)
  client.destroy()
  return reply
}

/** The answer to RCPT in a session of its own. */
export async function tryRcpt(
  haraka: Haraka,
  from: string,
  to = 'b@rcpt.test',
  sender?: string,
  user?: string,
) {
  const client = await sessionFrom(haraka, from, user)
  await client.command(`MAIL FROM:<${sender ?? 'a@sender.test'}>`)
  const reply = await client.command(`RCPT TO:<${to}>`)
  client.destroy()
  return reply
}

/** The greeting of a connection that is closed at once. */
export async function tryConnect({ port }: Haraka, from: string): Promise<Reply> {
  const client = await SmtpClient.connect({ port, from })
  client.destroy()
  return client.greeting
}

/** The answer to AUTH PLAIN with a wrong password, in a session of its own. */
export async function guess(haraka: Haraka, from: string, user: string, word = 'wrong'): Promise<Reply> {
  const client = await sessionFrom(haraka, from)
  const reply = await client.authPlain(user, word)
  client.destroy()
  return reply
}

/** A section that limits nobody but those named. */
export const only = (section: string, ...exceptions: string[]): string =>
  `[${section}]\nlimit = unlimited\n${exceptions.map((line) => `${line}\n`).join('')}`

/** One after the other: what each of `count` tries says. */
export async function each<T>(count: number, attempt: (index: number) => Promise<T>): Promise<T[]> {
  const results: T[] = []
  for (let index = 0; index < count; index++) results.push(await attempt(index))
  return results
}

export const codes = (replies: Reply[]): number[] => replies.map(({ code }) => code)

/** Waits until each worker counts in Redis: while a new connection is being made, memory counts. */
export async function untilRedisCounts(haraka: Haraka, redis: RedisServer): Promise<void> {
  const used = async () =>
    Number(
      await redis.run('HGET', 'relay-guard:rate:{user-network:emil%20127.99.0.0%2F24}:logins', '30d.used'),
    )
  await until(async () => {
    const before = await used()
    await each(4, async () => (await sessionFrom(haraka, '127.99.0.1', 'emil')).destroy())
    await sleep(50)
    return (await used()) === before + 4
  })
}
