// Debian's own servers as next hops, with many clients on few connections: each gets the answer to its own mail.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Envelope } from '../core/next-hop/route'

import { dovecot, type MailServer, missing, postfix } from './support/mail-servers'
import { newClient, routeTo, text } from './support/next-hop'
import { until } from './support/patience'
import { freePort } from './support/ports'
import { type Sink, startSink } from './support/sink'

/** Runs `work` for each number below `count`, so many at a time. */
async function many(count: number, atOnce: number, work: (number: number) => Promise<unknown>) {
  let next = 0
  const worker = async () => {
    while (next < count) await work(next++)
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
}

const noPostfix = missing('postfix')
const noDovecot = missing('dovecot')

describe('Postfix as next hop', { skip: noPostfix && `${noPostfix}: .ci/run installs it` }, () => {
  const users = ['anna', ...Array.from({ length: 80 }, (_, number) => `user${number}`)]

  async function withPostfix(connections: number, work: (server: MailServer, sink: Sink) => Promise<void>) {
    const sink = await startSink()
    const options = { port: await freePort(), users, sink: sink.port, size: 20_000, connections }
    const server = postfix(options)
    try {
      await server.start()
      await work(server, sink)
    } finally {
      await server.remove()
      await sink.close()
    }
  }

  test('its answers reach the right clients over the few connections that it allows', async (t) => {
    await withPostfix(3, async (server, sink) => {
      const client = newClient({ budget: 120_000 })
      t.after(() => client.closeAll())
      // 20 may be open, 3 are taken: the others wait for their turn.
      const route = routeTo([`smtp://127.0.0.1:${server.port}`], { connections: 20 })
      const open = (envelope: Envelope) => client.open(route, envelope)
      await many(80, 30, async (number) => {
        const from = `${number}@a.example`
        if (number % 4 === 1) {
          const reply = await open({ mailFrom: from, size: 3_000_000 }).rcpt(`user${number}@box.test`)
          assert.deepEqual([reply.code, reply.status], [552, '5.3.4'], reply.text)
          return
        }
        const delivery = open({ mailFrom: from, size: 100 })
        if (number % 4 === 2) {
          const unknown = await delivery.rcpt(`nobody${number}@box.test`)
          assert.deepEqual([unknown.code, unknown.status], [550, '5.1.1'], unknown.text)
          assert.match(unknown.text, new RegExp(`<nobody${number}@box.test>`))
        }
        if (number % 4 === 3) {
          const foreign = await delivery.rcpt(`x${number}@else.test`)
          assert.match(foreign.text, new RegExp(`<x${number}@else.test>: Relay access denied`))
        }
        const reply = await delivery.rcpt(`user${number}@box.test`)
        assert.equal(reply.code, 250, `${reply.text} ${server.log().slice(-1000)}`)
        const [outcome] = await delivery.send(text(`Subject: ${number}\r\n\r\nx\r\n`))
        assert.equal(outcome?.reply.code, 250, outcome?.reply.text)
      })
      await until(() => sink.messages.length >= 60)
      const arrived = sink.messages.map(({ from, to }) => `${from} ${to}`).sort()
      const sent = Array.from({ length: 80 }, (_, number) => number).filter((number) => number % 4 !== 1)
      assert.deepEqual(arrived, sent.map((number) => `${number}@a.example user${number}@box.test`).sort())
      await until(() => /Connection concurrency limit exceeded/.test(server.log()), 'it did refuse some')
    })
  })

  test('a restart in the middle of a transaction loses nothing and doubles nothing', async (t) => {
    await withPostfix(50, async (server, sink) => {
      const client = newClient()
      t.after(() => client.closeAll())
      const route = routeTo([`smtp://127.0.0.1:${server.port}`])
      const deliveries = await Promise.all(
        Array.from({ length: 10 }, async (_, number) => {
          const delivery = client.open(route, { mailFrom: `${number}@a.example` })
          assert.equal((await delivery.rcpt('anna@box.test')).code, 250)
          return delivery
        }),
      )
      await server.stop()
      // Told so while it is away, and the client comes again.
      const [away] = await deliveries[0]!.send(text('x\r\n'))
      assert.deepEqual([away?.reply.answered, away?.reply.code], [false, 451])
      await server.start()
      for (const delivery of deliveries.slice(1)) {
        assert.equal((await delivery.rcpt('user1@box.test')).code, 250)
        const outcomes = await delivery.send(text('x\r\n'))
        assert.deepEqual(
          outcomes.map(({ recipient, reply }) => [recipient, reply.code]),
          [
            ['anna@box.test', 250],
            ['user1@box.test', 250],
          ],
        )
      }
      await until(() => sink.messages.flatMap(({ to }) => to).length >= 18)
      assert.deepEqual(new Set(sink.messages.map(({ from }) => from)).size, 9)
      assert.equal(sink.messages.flatMap(({ to }) => to).length, 18)
    })
  })
})

describe('Dovecot’s LMTP as next hop', { skip: noDovecot && `${noDovecot}: .ci/run installs it` }, () => {
  test('each recipient gets its own answer, before and after the message', async (t) => {
    const names = Array.from({ length: 40 }, (_, number) => number)
    const users = Object.fromEntries(
      names.flatMap((number) => [
        [`user${number}@box.test`, undefined],
        [`full${number}@box.test`, 10],
      ]),
    )
    const server = dovecot({ port: await freePort(), users })
    t.after(() => server.remove())
    await server.start()
    const client = newClient()
    t.after(() => client.closeAll())
    const route = routeTo([`lmtp://127.0.0.1:${server.port}`], { connections: 4 })
    await many(40, 12, async (number) => {
      const delivery = client.open(route, { mailFrom: `${number}@a.example` })
      const unknown = await delivery.rcpt(`nobody${number}@box.test`)
      assert.deepEqual([unknown.code, unknown.status], [550, '5.1.1'], unknown.text)
      assert.match(unknown.text, new RegExp(`<nobody${number}@box.test>`))
      const mine = [`full${number}@box.test`, `user${number}@box.test`]
      if (number % 2) mine.reverse()
      for (const recipient of mine) assert.equal((await delivery.rcpt(recipient)).code, 250)
      const outcomes = await delivery.send(text(`Subject: ${number}\r\n\r\n${'x'.repeat(100)}\r\n`))
      assert.deepEqual(
        outcomes.map(({ recipient }) => recipient),
        mine,
      )
      for (const { recipient, reply, peer } of outcomes) {
        assert.match(reply.text, new RegExp(`<${recipient}>`))
        assert.equal(reply.status, recipient.startsWith('full') ? '5.2.2' : '2.0.0', reply.text)
        assert.equal(peer?.protocol, 'LMTP')
      }
    })
    const saved = () => server.log().match(/saved mail to INBOX/g)?.length ?? 0
    // Its log is written by another process than the answers.
    await until(() => saved() >= 40)
    assert.equal(saved(), 40)
  })
})
