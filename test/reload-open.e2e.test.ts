// What a reload means for connections and transactions that are open: it holds at their next command.
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { type Haraka, startHaraka } from './support/haraka'
import { type Sink, startSink } from './support/sink'
import { SmtpClient } from './support/smtp-client'

const foreign = 'RCPT TO:<v@victim.example>'

/** Counts how often a recipient is judged, and says so when the transaction ends. */
const countJudgements = `
const path = require('node:path')
const policy = require(path.join(process.env.HARAKA, 'node_modules/haraka-plugin-relay-guard/plugins/domains/policy/recipient.js'))
const judge = policy.judgeRecipient
let count = 0
policy.judgeRecipient = (...args) => {
  count++
  return judge(...args)
}
exports.register = function () {
  this.register_hook('reset_transaction', 'tell', 100)
}
exports.tell = function (next, connection) {
  connection.lognotice(this, 'judged ' + count + ' for ' + connection.transaction?.rcpt_to.length + ' by ' + connection.remote.ip)
  count = 0
  next()
}
`

let haraka: Haraka
let old: Sink
let fresh: Sink
let internet: Sink
const clients: Record<string, SmtpClient> = {}

const acl = (relay: string) => `[relay]\n127.31.0.0/16\n${relay}`
const domains = (hop: Sink, antiSpoof: string, rest = '') => `[main]
anti_spoof = ${antiSpoof}
anti_spoof_from = off
smarthost = ${internet.address()}
[moved.test]
next_hop = ${hop.address()}
tls = none
${rest}`

/** A client at this address, with MAIL said. */
async function at(ip: string, from = '<a@sender.example>') {
  const client = await SmtpClient.connect({ port: haraka.port, from: ip })
  await client.ehlo()
  assert.equal((await client.command(`MAIL FROM:${from}`)).code, 250)
  return client
}

const code = async (name: string, command: string) => {
  const { code, status } = await clients[name]!.command(command)
  return `${code} ${status}`
}

before(async () => {
  old = await startSink({})
  fresh = await startSink({})
  internet = await startSink({})
  haraka = await startHaraka({
    plugins: ['count_judgements', 'relay-guard/acl', 'relay-guard/domains'],
    localPlugins: { count_judgements: countJudgements },
    files: {
      'relay-guard/acl.ini': acl('127.32.0.0/16\n127.33.0.0/16\n127.34.0.0/16\n'),
      'relay-guard/domains.ini': domains(
        old,
        'off',
        `[gone.test]\nnext_hop = ${old.address()}\ntls = none\n`,
      ),
    },
  })
  for (const [name, ip] of Object.entries({
    kept: '127.31.0.1',
    never: '127.32.0.1',
    rejected: '127.33.0.1',
    'rejected at another command': '127.33.0.2',
    'rejected at the dot': '127.33.0.3',
    removed: '127.34.0.1',
    added: '127.35.0.1',
  })) {
    clients[name] = await at(ip)
    assert.equal(await code(name, foreign), name === 'added' ? '550 5.7.1' : '250 2.1.5', name)
  }
  for (const [name, from, to] of [
    ['moved', '<a@sender.example>', '<anna@moved.test>'],
    ['gone', '<a@sender.example>', '<anna@gone.test>'],
    ['forger', '<boss@moved.test>', '<anna@moved.test>'],
  ] as const) {
    clients[name] = await at('127.36.0.1', from)
    assert.equal((await clients[name].command(`RCPT TO:${to}`)).code, 250, name)
  }
  assert.equal(await code('rejected at the dot', 'DATA'), '354 ')
  haraka.write(
    'relay-guard/acl.ini',
    acl('127.35.0.0/16\n[never]\n127.32.0.0/16\n[reject]\n127.33.0.0/16 = closed\n'),
  )
  haraka.write('relay-guard/domains.ini', domains(fresh, 'reject'))
  await haraka.waitForLog(/acl\.ini was read again and is in force/)
  await haraka.waitForLog(/domains\.ini was read again and is in force/)
})

after(async () => {
  for (const client of Object.values(clients)) client.destroy()
  await haraka?.stop()
  for (const sink of [old, fresh, internet]) await sink?.close()
  assert.deepEqual(haraka?.failures() ?? [], [])
})

describe('a reload of acl.ini, for a connection with a transaction open', () => {
  it('leaves the right of who is still in [relay]', async () => {
    assert.equal(await code('kept', foreign), '250 2.1.5')
  })

  for (const name of ['never', 'removed'])
    it(`takes the right of who is now ${name}: at RCPT, and for the recipient accepted before at DATA`, async () => {
      assert.equal(await code(name, foreign), '550 5.7.1')
      assert.equal(await code(name, 'DATA'), '550 5.7.1')
      assert.equal(await code(name, 'RSET'), '250 ')
      assert.equal((await clients[name]!.command('MAIL FROM:<a@sender.example>')).code, 250)
      assert.equal(await code(name, foreign), '550 5.7.1')
    })

  it('ends the connection of who is now in [reject], with its label', async () => {
    const reply = await clients['rejected']!.command(foreign)
    assert.match(
      `${reply.code} ${reply.status} ${reply.text}`,
      /^554 5\.7\.1 .*127\.33\.0\.1 is not welcome here: closed/,
    )
    assert.equal((await clients['rejected']!.command('NOOP')).code, 0, 'still connected')
  })

  it('ends it at any command that a hook sees, so that no password is tried any more', async () => {
    assert.equal(await code('rejected at another command', 'AUTH PLAIN AGEAYg=='), '554 5.7.1')
  })

  it('ends it at the final dot, too', async () => {
    assert.equal(await code('rejected at the dot', 'Subject: x\r\n\r\nx\r\n.'), '554 5.7.1')
  })

  it('gives the right to who is now in [relay]', async () => {
    assert.equal(await code('added', foreign), '250 2.1.5')
  })
})

describe('a reload of domains.ini between RCPT and DATA', () => {
  it('asks the recipients anew at the next hop that is in force, which gets the message', async () => {
    const client = clients['moved']!
    const { data, dot } = await client.data('Subject: moved\r\n\r\nhello\r\n')
    assert.deepEqual([data.code, dot?.code], [354, 250])
    assert.deepEqual([old.messages.length, fresh.messages.length], [0, 1])
  })

  it('refuses the recipient of a domain that is gone', async () => {
    assert.equal(await code('gone', 'DATA'), '550 5.7.1')
  })

  it('judges the sender anew', async () => {
    assert.equal(await code('forger', 'DATA'), '550 5.7.1')
  })
})

describe('the relay decision', () => {
  for (const [who, ip, to] of [
    ['of a stranger', '127.36.0.2', ['anna@moved.test', 'bob@moved.test', 'cleo@moved.test']],
    ['of a client that may relay', '127.31.0.2', ['anna@moved.test', 'v@victim.example']],
  ] as const)
    it(`is made once for a recipient ${who}, from RCPT to the queue`, async () => {
      const client = await SmtpClient.connect({ port: haraka.port, from: ip })
      await client.ehlo()
      const { dot } = await client.deliver({
        from: 'a@sender.example',
        to: [...to],
        data: 'Subject: x\r\n\r\nx\r\n',
      })
      assert.equal(dot?.code, 250)
      await client.quit()
      const told = await haraka.waitForLog(
        new RegExp(`judged \\d+ for \\d+ by ${ip.replaceAll('.', '\\.')}$`),
      )
      assert.match(told, new RegExp(`judged ${to.length} for ${to.length} by`))
    })
})
