// The open-relay battery at a real Haraka: what each kind of client is answered, and what reaches the next hops.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { ownSender, recipientForms, senderForms } from './support/battery'
import { type Case, type Mode, runBattery } from './support/battery-runner'
import { type Haraka, startHaraka } from './support/haraka'
import { connectAs, type Kind, kindNames, kinds, startWorld, type World } from './support/world'

const modes: Mode[] = ['single', 'pipelined']
const ours = ['relay-guard/acl', 'relay-guard/auth', 'relay-guard/domains', 'auth/flat_file']
const onward = /[%!,]|@.*@|imcea|^@/i
const others = kindNames.filter((kind) => !kinds[kind].mayRelay)

function recipientCases(kind: Kind): Case[] {
  const expected = kinds[kind].mayRelay ? 'relaying' : 'others'
  return recipientForms.map((form) => ({
    from: ownSender(kind),
    to: form.path,
    expected: form[expected],
    mayRelay: kinds[kind].mayRelay,
    ...(form.arrives !== undefined && { arrives: form.arrives }),
  }))
}

/** Each sender to a mailbox of ours, and to a foreign one. */
function senderCases(kind: Kind): Case[] {
  const { mayRelay } = kinds[kind]
  const column = 'login' in kinds[kind] ? 'user' : kind === 'relay' ? 'relay' : 'others'
  return senderForms.flatMap((form) => {
    const expected = form[column]
    const abroad = expected === 'smtp' ? (mayRelay ? 'internet' : 'denied') : expected
    return [
      { from: form.path, to: '<anna@alpha.test>', expected, mayRelay },
      { from: form.path, to: '<v@victim.example>', expected: abroad, mayRelay },
    ]
  })
}

describe('a Haraka with acl, auth and domains', () => {
  let world: World
  let haraka: Haraka
  before(async () => {
    world = await startWorld()
    haraka = await startHaraka({ plugins: ours, files: world.files, tls: true })
  })
  after(async () => {
    await haraka?.stop()
    await world?.close()
  })

  for (const kind of [...others, ...kindNames.filter((k) => kinds[k].mayRelay)]) {
    for (const mode of modes) {
      test(`answers the recipients of a client that is "${kind}" as the contract says, ${mode}`, async () => {
        assert.deepEqual(await runBattery(world, haraka, kind, mode, recipientCases(kind)), [])
      })
      test(`answers the senders of a client that is "${kind}" as the contract says, ${mode}`, async () => {
        assert.deepEqual(await runBattery(world, haraka, kind, mode, senderCases(kind)), [])
      })
    }
    if (kinds[kind].mayRelay) continue
    test(`asks no next hop for a wrapped address when the client is "${kind}"`, () => {
      const asked = [...world.smtp.rcpts, ...world.lmtp.rcpts].map((path) => path.replace(/^<|>$/g, ''))
      assert.ok(asked.length > 0)
      assert.deepEqual(
        asked.filter((address) => onward.test(address)),
        [],
      )
      assert.deepEqual(world.internet.rcpts, [])
    })
  }

  test('hands out the next hop’s own answer for an unknown mailbox', async () => {
    const client = await connectAs('stranger', haraka.port)
    const { rcpt } = await client.deliver({
      from: 'a@evil.example',
      to: ['nobody@alpha.test', 'nobody@gamma.test'],
    })
    assert.deepEqual(
      rcpt.map(({ code, status }) => [code, status]),
      [
        [550, '5.1.1'],
        [550, '5.1.1'],
      ],
    )
    await client.quit()
  })

  test('delivers one message for two domains of one next hop in one transaction', async () => {
    const client = await connectAs('stranger', haraka.port)
    const to = ['anna@alpha.test', 'berta@beta.test', 'v@victim.example', 'carl@sub.alpha.test']
    const { rcpt, dot } = await client.deliver({ from: 'two@evil.example', to })
    assert.deepEqual(
      rcpt.map(({ code }) => code),
      [250, 250, 550, 250],
    )
    assert.equal(dot?.code, 250)
    const got = world.smtp.messages.filter(({ from }) => from.includes('two@evil.example'))
    assert.deepEqual(
      got.map((message) => message.to.map((path) => path.replace(/[<>]/g, ''))),
      [['anna@alpha.test', 'berta@beta.test', 'carl@sub.alpha.test']],
    )
    await client.quit()
  })

  test('lets a user write to a colleague and to a foreign friend in one message', async () => {
    const client = await connectAs('user', haraka.port)
    const to = ['anna@alpha.test', 'friend@victim.example', 'carl@gamma.test']
    const { rcpt, dot } = await client.deliver({
      from: 'ann@alpha.test',
      to,
      data: 'X-Mail: both\r\n\r\nhi\r\n',
    })
    assert.deepEqual(
      [...rcpt, dot].map((reply) => reply?.code),
      [250, 250, 250, 250],
    )
    await client.quit()
    await haraka.queueEmpty()
    const at = (sink: typeof world.smtp) =>
      sink.messages.filter(({ data }) => data.includes('X-Mail: both')).flatMap((message) => message.to)
    assert.match(at(world.smtp).join(), /^<?anna@alpha\.test>?$/)
    assert.match(at(world.internet).join(), /^<?friend@victim\.example>?$/)
    assert.match(at(world.lmtp).join(), /^<?carl@gamma\.test>?$/)
  })

  test('takes an internationalised domain in its Unicode form', async () => {
    const client = await connectAs('stranger', haraka.port)
    await client.command('MAIL FROM:<a@evil.example> SMTPUTF8')
    client.raw(Buffer.from('RCPT TO:<anna@bücher.test>\r\n', 'utf8'))
    assert.equal((await client.reply()).code, 250)
    client.raw(Buffer.from('RCPT TO:<anna@bücher.example>\r\n', 'utf8'))
    assert.equal((await client.reply()).code, 550)
    await client.quit()
  })

  test('has lost no program error in its log', () => {
    assert.deepEqual(haraka.failures(), [])
  })
})
