// Whatever a next hop answers and wherever it drops: each accepted recipient gets the message once, or the client is
// told of that very recipient, and nobody is told what another client's transaction was answered.
// RUNS=n makes n runs with seeds that follow SEED.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Source } from '../core/next-hop/message'
import { isAccepted, type Reply } from '../core/next-hop/reply'
import { newClient, routeTo, text } from './support/next-hop'
import { pick, randomFrom } from './support/random'
import { startScriptedHop } from './support/scripted-hop'

const seed = Number(process.env['SEED'] ?? 20_261)
const runs = Number(process.env['RUNS'] ?? 1)
const CLIENTS = 250
const AT_ONCE = 25

interface Told {
  recipients: string[]
  /** What the client was told of each recipient it was told yes for at RCPT; nothing: the transaction was refused whole. */
  outcomes: Map<string, Reply>
}

async function run(t: { after(done: () => unknown): void }, seed: number, lmtp: boolean) {
  const random = randomFrom(seed)
  const hops = [await startScriptedHop(random, lmtp), await startScriptedHop(random, lmtp)]
  const client = newClient({
    backOff: 20,
    maxBackOff: 50,
    grace: 1,
    idle: 30,
    idleTime: 50,
    limitMemory: 50,
    budget: 8_000,
  })
  t.after(() => Promise.all([client.closeAll(), ...hops.map((hop) => hop.close())]))
  const route = routeTo(
    hops.map(({ address }) => address),
    { connections: 8, timeout: 700, timeoutFinal: 1_000 },
  )
  const told = new Map<string, Told>()
  const ownWords = (id: string, { answered, text }: Reply) => {
    const named = /for ([^\s,]+@[^\s,]+)/.exec(text)?.[1]
    if (answered) assert.equal(named, id, `${id} was told: ${text}`)
  }

  async function deliver(id: string) {
    const delivery = client.open(route, { mailFrom: id })
    const accepted: string[] = []
    for (let left = 1 + Math.floor(random() * 4); left > 0; left--) {
      const recipient = `r${left}-${id}`
      const reply = await delivery.rcpt(recipient)
      ownWords(id, reply)
      if (isAccepted(reply)) accepted.push(recipient)
      // Some think before they go on, so that their connection is given to others.
      if (random() < 0.2) await new Promise((resolve) => setTimeout(resolve, random() * 20))
    }
    const outcomes = new Map<string, Reply>()
    told.set(id, { recipients: accepted, outcomes })
    const held = await delivery.hold(accepted)
    for (const { reply } of held) ownWords(id, reply)
    // What hooks/data.ts does: one refusal is the answer to the whole message.
    if (!accepted.length || held.some(({ reply }) => !isAccepted(reply))) return delivery.abort()
    const [head, body] = [`Subject: ${id}\r\n\r\n`, 'x'.repeat(100)]
    const inPieces: Source = (to) => {
      to.write(head)
      setTimeout(() => to.end(body), random() * 5)
    }
    const source = random() < 0.3 ? inPieces : text(head + body)
    for (const { recipient, reply } of await delivery.send(source)) {
      ownWords(id, reply)
      assert.equal(outcomes.has(recipient), false, `${recipient} twice`)
      outcomes.set(recipient, reply)
    }
    assert.deepEqual(
      [...outcomes.keys()].sort(),
      [...accepted].sort(),
      `${id}: each recipient has its outcome`,
    )
  }

  const ids = Array.from({ length: CLIENTS }, (_, number) => `${number}@a.example`)
  const worker = async () => {
    for (let id = ids.pop(); id !== undefined; id = ids.pop()) {
      await deliver(id).catch((error) => {
        ids.length = 0
        throw error
      })
      if (random() < 0.03) await pick(hops, random).restart()
    }
  }
  const workers = Promise.allSettled(Array.from({ length: AT_ONCE }, worker))
  for (const result of await workers) if (result.status === 'rejected') throw result.reason
  await client.closeAll()
  await Promise.all(hops.map((hop) => hop.close()))

  const arrivals = new Map<string, number>()
  for (const { from, to, text } of hops.flatMap((hop) => hop.arrived)) {
    if (text) assert.match(text, new RegExp(`^Subject: ${from}\r`), 'a message under its own envelope')
    for (const recipient of to) {
      assert.ok(recipient.endsWith(`-${from}`), `${recipient} got the message of ${from}`)
      arrivals.set(recipient, (arrivals.get(recipient) ?? 0) + 1)
    }
  }
  const counts = { once: 0, refused: 0, unsure: 0 }
  for (const [id, { recipients, outcomes }] of told) {
    for (const recipient of recipients) {
      const times = arrivals.get(recipient) ?? 0
      const reply = outcomes.get(recipient)
      const unsure =
        reply && (reply.status === '4.4.2' || reply.code === 421 || /neither yes nor no/.test(reply.text))
      if (reply && isAccepted(reply)) assert.equal(times, 1, `${recipient} was accepted: ${reply.text}`)
      else if (unsure) assert.ok(times <= 1, `${recipient} arrived ${times} times`)
      else assert.equal(times, 0, `${recipient} of ${id} was refused: ${reply?.code} ${reply?.text}`)
      counts[reply && isAccepted(reply) ? 'once' : unsure ? 'unsure' : 'refused']++
      arrivals.delete(recipient)
    }
  }
  assert.deepEqual([...arrivals], [], 'nobody got what was not accepted')
  return counts
}

for (const lmtp of [false, true]) {
  test(`over ${lmtp ? 'LMTP' : 'SMTP'} each accepted recipient gets the message once, or the client is told of it`, async (t) => {
    for (let number = 0; number < runs; number++) {
      const counts = await run(t, seed + number, lmtp)
      t.diagnostic(`SEED=${seed + number} ${JSON.stringify(counts)}`)
      assert.ok(counts.once > CLIENTS / 3 && counts.refused + counts.unsure > 5, JSON.stringify(counts))
    }
  })
}
