// Limits beside other plugins, before and after them: what they refuse is given back, and what they accept is counted.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { type Haraka, startHaraka } from './support/haraka'
import { codes, each, only, sessionFrom, startLimits, tryMail, tryRcpt } from './support/limits'
import { startWorld, unknownUser, type World } from './support/world'

const limits = [
  only('recipients per ip', '127.71.0.0/16 = 2/1h'),
  only('messages per ip', '127.72.0.0/16 = 2/1h'),
  only('bytes per ip', '127.73.0.0/16 = 5K/1h'),
  only('refused recipients per ip', '127.74.0.0/16 = 2/1h'),
].join('')

const data = `Subject: test\r\n\r\n${`${'y'.repeat(98)}\r\n`.repeat(30)}`

/** As dns-list says OK to MAIL for those on a white list, and bounce to a message. */
const saysOk = `
exports.hook_mail = (next, connection, [{ host }]) => next(host === 'white.test' ? OK : CONT)
exports.hook_data_post = (next, { transaction }) => next(transaction.mail_from.host === 'white.test' ? OK : CONT)
`
/** For delay_deny to hold back until rcpt_ok. */
const denies = `exports.hook_rcpt = (next, connection, [{ user }]) => next(user === 'denied' ? DENY : CONT)\n`

const lines = ['rcpt_to.in_host_list', 'relay-guard/limits']
for (const plugins of [lines, [...lines].reverse()]) {
  test(`recipients are counted with the lines ${plugins.join(', ')}`, async () => {
    const haraka = await startLimits({ limits, plugins, files: { host_list: 'listed.test\n' } })
    try {
      const names = ['a@listed.test', 'a@foreign.test', 'b@listed.test', 'c@listed.test']
      const replies = await each(4, (index) => tryRcpt(haraka, '127.71.0.1', names[index]))
      assert.deepEqual(codes(replies), [250, 550, 250, 450])
      const foreign = await each(3, () => tryRcpt(haraka, '127.74.0.1', 'a@foreign.test'))
      assert.deepEqual(codes(foreign), [550, 550, 450])
      assert.match(
        foreign[2]?.text ?? '',
        /Too many refused recipients from 127\.74\.0\.1 .*try again in \d+ s/,
      )
      const client = await sessionFrom(haraka, '127.74.0.2')
      const rcpts = [1, 2, 3, 4].map((number) => `RCPT TO:<${number}@foreign.test>`)
      const guesses = await client.pipeline(['MAIL FROM:<a@b.test>', ...rcpts, 'RCPT TO:<a@listed.test>'])
      assert.deepEqual(codes(guesses), [250, 550, 550, 450, 450, 450])
      client.destroy()
      assert.deepEqual(haraka.failures(), [])
    } finally {
      await haraka.stop()
    }
  })
}

const orders = {
  first: ['relay-guard/limits', 'delay_deny', 'says_ok', 'denies', 'relay-guard/acl', 'relay-guard/domains'],
  last: ['relay-guard/acl', 'relay-guard/domains', 'delay_deny', 'says_ok', 'denies', 'relay-guard/limits'],
}
for (const [where, plugins] of Object.entries(orders)) {
  describe(`the line of limits ${where}`, () => {
    let world: World
    let haraka: Haraka
    before(async () => {
      world = await startWorld()
      haraka = await startHaraka({
        plugins,
        localPlugins: { says_ok: saysOk, denies },
        files: { ...world.files, 'relay-guard/limits.ini': limits },
      })
    })
    after(async () => {
      await haraka?.stop()
      await world?.close()
    })

    test('gives back what the next hop, delay_deny or the relay decision refuses', async () => {
      const names = [`${unknownUser}@alpha.test`, 'a@victim.example', 'denied@alpha.test', 'a@alpha.test']
      const again = [...names, ...names]
      const replies = await each(8, (index) => tryRcpt(haraka, '127.71.0.1', again[index]))
      assert.deepEqual(codes(replies), [550, 550, 550, 250, 550, 550, 550, 250])
      assert.equal((await tryRcpt(haraka, '127.71.0.1', 'a@alpha.test')).code, 450)
    })

    test('asks no next hop about a recipient that it refuses', async () => {
      const client = await sessionFrom(haraka, '127.71.0.2')
      const { rcpt, dot } = await client.deliver({
        from: 'a@sender.test',
        to: [1, 2, 3].map((number) => `${where}${number}@alpha.test`),
      })
      assert.deepEqual(codes([...rcpt, dot!]), [250, 250, 450, 250])
      await client.quit()
      const asked = world.smtp.rcpts.filter((address) => address.startsWith(where))
      assert.deepEqual(asked, [`${where}1@alpha.test`, `${where}2@alpha.test`])
    })

    test('counts recipients that the next hop or the relay decision refuses as refused', async () => {
      const names = [`${unknownUser}@alpha.test`, 'a@victim.example', 'a@alpha.test']
      const replies = await each(3, (index) => tryRcpt(haraka, '127.74.0.1', names[index]))
      assert.deepEqual(codes(replies), [550, 550, 450])
    })

    test('counts a message and its bytes where a plugin says OK before', async () => {
      const client = await sessionFrom(haraka, '127.72.0.1')
      const replies = await each(3, async () => {
        const { rcpt } = await client.deliver({ from: 'a@white.test', to: ['a@alpha.test'], data })
        return rcpt[0]!
      })
      assert.deepEqual(codes(replies), [250, 250, 450])
      await client.quit()
      const other = await sessionFrom(haraka, '127.73.0.1')
      const dots = await each(2, async () => {
        const { dot } = await other.deliver({ from: 'a@white.test', to: ['a@alpha.test'], data })
        return dot!
      })
      assert.deepEqual(codes(dots), [250, 450])
      await other.quit()
    })

    test('holds for messages', async () => {
      assert.deepEqual(codes(await each(3, () => tryMail(haraka, '127.72.0.2'))), [250, 250, 450])
      assert.deepEqual(haraka.failures(), [])
    })
  })
}
