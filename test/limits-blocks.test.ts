// Every WHAT for every WHOM, under each action, with a block and without, in both stores: what the hooks answer, and
// whether a block is written. The hooks run on Haraka's own connections without a socket.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { takeOverRelaying } from '../core/haraka/relaying'
import type { Next } from '../core/haraka/types'
import { parseIni } from '../core/ini/parse'
import type { Setting } from '../core/ini/reload'
import { Limiter } from '../core/limiter'
import { unlimited } from '../core/limiter/rate'
import { scripts } from '../core/limiter/step-script'
import { services } from '../core/services'
import { type LimitsConfig, readLimits } from '../plugins/limits/config'
import { auth } from '../plugins/limits/hooks/auth'
import { count_connection, disconnect } from '../plugins/limits/hooks/connect'
import { count_bytes, reset } from '../plugins/limits/hooks/data'
import { count_message } from '../plugins/limits/hooks/mail'
import { count_recipient, shut } from '../plugins/limits/hooks/rcpt'
import { runtime } from '../plugins/limits/hooks/runtime'
import { addressOf, connectionOf, pluginOf, type TestConnection } from './support/connection'
import { untilRedis } from './support/limiter'
import { noRedis, RedisServer } from './support/redis'

const { plugin } = pluginOf('relay-guard/limits')
takeOverRelaying(plugin)

/** What a hook answers: `ok`, or code, status and text without the time and the id. */
function run(hook: (next: Next) => unknown): Promise<string> {
  return new Promise((resolve) => {
    const next: Next = (_code, message) => {
      if (message === undefined) return resolve('ok')
      const { code, reply } = message as { code: number; reply: string }
      resolve(`${code} ${reply}`.replace(/, try again in \d+ s/, ', later').replace(/ \(id .*$/, ''))
    }
    hook(next)
  })
}

const ip = '203.0.113.9'

class Client {
  connection: TestConnection = connectionOf({ remoteAddress: ip, localAddress: '192.0.2.10', localPort: 25 })

  connect = () => run((next) => count_connection.call(plugin, next, this.connection))

  mail(sender = 'a@sender.test'): Promise<string> {
    const transaction = this.connection.begin(`<${sender}>`)
    transaction.results.add({ name: 'spf' }, { scope: 'mfrom', result: 'Pass', domain: 'sender.test' })
    return run((next) => count_message.call(plugin, next, this.connection, [transaction.mail_from, {}]))
  }

  /** `taken`: whether the next hop says yes, where we do. */
  async rcpt(taken = true): Promise<string> {
    const { connection } = this
    const to = addressOf('<b@rcpt.test>')
    const shutOut = await run((next) => shut.call(plugin, next, connection, [to]))
    if (shutOut !== 'ok') return shutOut
    connection.transaction!.rcpt_to.push(to)
    const said = await run((next) => count_recipient.call(plugin, next, connection, to))
    const counter = said === 'ok' && taken ? 'accept' : said.startsWith('4') ? 'tempfail' : 'reject'
    connection.rcpt_count[counter]++
    return said
  }

  bytes(size: number): Promise<string> {
    const { transaction } = this.connection
    transaction!.data_bytes = size
    return run((next) => count_bytes.call(plugin, next, this.connection))
  }

  /** AUTH PLAIN with a wrong password. */
  async guess(user: string): Promise<string> {
    const { connection } = this
    const words = ['AUTH', `PLAIN ${Buffer.from(`\0${user}\0wrong`).toString('base64')}`]
    const said = await run((next) => auth.call(plugin, next, connection, words))
    if (said === 'ok') connection.notes.auth_fails = (connection.notes.auth_fails ?? 0) + 1
    return said
  }

  logIn(user: string): void {
    this.connection.notes.auth_user = user
    this.connection.relaying = true
  }

  async quit(): Promise<void> {
    await run((next) => reset.call(plugin, next, this.connection))
    this.connection.end()
    await run((next) => disconnect.call(plugin, next, this.connection))
    // What was given back and charged without anybody waiting is done when this is.
    await services.limiter!.dryRun([{ scope: 'ip', subject: ip, what: 'x', cost: 1, limit: unlimited }])
  }
}

type Attempt = (client: Client, index: number) => Promise<string>

/** How each WHAT is used once. */
const attempts: Record<string, Attempt> = {
  connections: (client) => client.connect(),
  'concurrent connections': (client) => client.connect(),
  messages: (client) => client.mail(),
  recipients: async (client) => (await client.mail()) && client.rcpt(),
  bytes: async (client) => (await client.mail()) && (await client.rcpt()) && client.bytes(100),
  'failed logins': (client, index) => client.guess(`nobody${index}`),
  'refused recipients': async (client) => (await client.mail()) && client.rcpt(false),
}

const names: Record<string, string> = {
  ip,
  network: '203.0.113.0/24',
  user: 'anna',
  sender: 'a@sender.test',
  'sender domain': 'sender.test',
  recipient: 'b@rcpt.test',
  'recipient domain': 'rcpt.test',
}

const clients = ['ip', 'network']
const strangers = ['sender', 'sender domain', 'recipient', 'recipient domain']
const pairs: Record<string, string[]> = {
  connections: clients,
  'concurrent connections': clients,
  messages: [...clients, 'user', 'sender', 'sender domain'],
  recipients: [...clients, 'user', ...strangers],
  bytes: [...clients, 'user', 'sender', 'sender domain', 'recipient domain'],
  'failed logins': [...clients, 'user'],
  'refused recipients': clients,
}

const deferred: Record<string, string> = {
  connections: '421 4.7.0',
  'concurrent connections': '421 4.7.0',
  messages: '450 4.7.1',
  recipients: '450 4.7.1',
  bytes: '452 4.3.1',
  'failed logins': '454 4.7.0',
  'refused recipients': '450 4.7.1',
}

interface Row {
  what: string
  whom: string
  action: string
  block: boolean
}

const rows: Row[] = Object.entries(pairs).flatMap(([what, whoms]) =>
  whoms.flatMap((whom) =>
    ['defer', 'reject', 'shadow'].flatMap((action) =>
      [false, true]
        .filter((block) => !strangers.includes(whom) || !(block || action === 'reject'))
        .map((block) => ({ what, whom, action, block })),
    ),
  ),
)

function configure({ what, whom, action, block }: Row): void {
  const limit = what === 'concurrent connections' ? '2' : what === 'bytes' ? '250/1h' : '2/1h'
  const text = `[${what} per ${whom}]\nlimit = ${limit}\naction = ${action}\n${block ? 'block = 2h\n' : ''}`
  const errors: Parameters<typeof parseIni>[2] = []
  const sections = parseIni('limits.ini', text, errors)
  const value = readLimits({ sections, errors, open: () => Buffer.alloc(0) })
  assert.deepEqual(errors, [])
  Object.assign(runtime, { plugin, limits: { value } as Setting<LimitsConfig> })
}

/** The answer to the third try, where two are allowed. */
function refusal({ what, whom, action }: Row): string {
  if (action === 'shadow') return 'ok'
  const most = what === 'concurrent connections' ? '2 at once' : what === 'bytes' ? '250 in 1h' : '2 in 1h'
  const isConnection = what.endsWith('connections')
  const code = action === 'defer' ? deferred[what]! : isConnection ? '554 5.7.1' : '550 5.7.1'
  const isUser = what === 'failed logins' && whom === 'user'
  const preposition = isUser ? 'for' : whom.startsWith('recipient') ? 'to' : 'from'
  const later = what === 'concurrent connections' ? '' : ', later'
  return `${code} Too many ${what} ${preposition} ${names[whom]} (${most})${later}`
}

async function blocksOf(limiter: Limiter): Promise<string[]> {
  const keys = [
    ...Object.entries(names).map(([scope, subject]) => ({ scope, subject })),
    { scope: 'user elsewhere', subject: 'anna' },
    { scope: 'user network', subject: 'anna 203.0.113.0/24' },
  ]
  const charges = keys.map((key) => ({ ...key, what: 'x', cost: 1, limit: unlimited }))
  const { refusals } = await limiter.dryRun(charges)
  return refusals.map((refused) =>
    refused.kind === 'block' ? `${refused.scope} ${refused.subject}: ${refused.block.reason}` : refused.kind,
  )
}

/** What happens to one who goes over, and to what he does next. */
async function tryOut(row: Row, limiter: Limiter, redis: RedisServer | undefined): Promise<void> {
  const { what, whom, action, block } = row
  configure(row)
  const open: Client[] = []
  const begin = () => {
    const client = new Client()
    if (whom === 'user' && what !== 'failed logins') client.logIn('anna')
    open.push(client)
    return client
  }
  const attempt = (index: number) =>
    what === 'failed logins' && whom === 'user' ? begin().guess('anna') : attempts[what]!(begin(), index)
  const end = async () => {
    for (const client of open.splice(0)) await client.quit()
  }
  const said: string[] = []
  for (const index of [1, 2, 3]) {
    said.push(await attempt(index))
    if (what !== 'concurrent connections') await end()
  }
  assert.deepEqual(said, ['ok', 'ok', refusal(row)])
  await end()

  const isBlocked = block && action !== 'shadow'
  const scope = what === 'failed logins' && whom === 'user' ? 'user elsewhere' : whom
  const reason = `too many ${what.replace(' ', '-')}`
  assert.deepEqual(await blocksOf(limiter), isBlocked ? [`${scope} ${names[whom]}: ${reason}`] : [])
  if (redis) {
    const key = `relay-guard:block:{${scope.replace(' ', '-')}:${names[whom]!.replace('/', '%2F')}}`
    assert.equal(await redis.run('HGET', key, 'reason'), isBlocked ? reason : null)
  }

  // Ordinary mail, and another login.
  const soft = action === 'defer'
  const blocked = (code: string) => `${code} ${names[whom]} is blocked (too many ${what}), later`
  const client = begin()
  const holds = isBlocked && scope !== 'user elsewhere'
  assert.equal(
    await new Client().connect(),
    holds && clients.includes(whom)
      ? blocked(soft ? '421 4.7.0' : '554 5.7.1')
      : action === 'shadow' || what !== 'connections'
        ? 'ok'
        : refusal(row),
  )
  const mail = await client.mail()
  const isOver = what === 'messages' && action !== 'shadow'
  assert.equal(mail, holds ? blocked(soft ? '450 4.7.1' : '550 5.7.1') : isOver ? refusal(row) : 'ok')
  const user = whom === 'user' ? 'anna' : 'berta'
  const login = await new Client().guess(user)
  const isGuesser = what === 'failed logins' && action !== 'shadow'
  assert.equal(login, isBlocked ? blocked(soft ? '454 4.7.0' : '550 5.7.1') : isGuesser ? refusal(row) : 'ok')
}

describe('over a limit', () => {
  let redis: RedisServer
  before(async () => {
    redis = await RedisServer.start()
    // One that is sent again because Redis does not know it comes after what was sent meanwhile.
    for (const { source } of Object.values(scripts)) await redis.run('SCRIPT', 'LOAD', source)
  })
  after(async () => {
    services.limiter = undefined
    await redis.stop()
  })

  for (const store of ['memory', 'redis'] as const) {
    for (const row of rows) {
      const { what, whom, action, block } = row
      test(`[${what} per ${whom}] ${action}${block ? ', block' : ''} in ${store}`, async () => {
        const settings = store === 'redis' ? redis.settings : noRedis
        await redis.run('FLUSHALL')
        const limiter = new Limiter({ settings, log: () => undefined, node: 'host/1' })
        services.limiter = limiter
        if (store === 'redis') await untilRedis({ limiter, lines: [] })
        try {
          await tryOut(row, limiter, store === 'redis' ? redis : undefined)
        } finally {
          await limiter.close()
        }
      })
    }
  }
})
