// Many messages over hosts that fail at random.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newClient, routeTo, text } from './support/next-hop'
import { type Response, type SinkOptions, startSink } from './support/sink'

/** Numbers from 0 to 1 that are the same each time (mulberry32). */
function random(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0
    let x = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x
    return ((x ^ (x >>> 14)) >>> 0) / 4_294_967_296
  }
}

test('of a thousand messages over failing hosts, each that is reported accepted arrived once, no other did', async (t) => {
  const dice = random(2026)
  const arrivals = new Map<string, number>()
  const arrived = (id: string) => arrivals.set(id, (arrivals.get(id) ?? 0) + 1)
  const faults: Response[] = ['drop', '421 4.3.2 Closing', '451 4.3.0 Trouble', Buffer.from('\0?\r\n')]
  const fault = () => (dice() < 0.02 ? faults[Math.floor(dice() * faults.length)] : undefined)
  const options: SinkOptions = {
    respond: (stage, _, session) => {
      if (stage === 'dot' && dice() < 0.02) {
        // Delivered, but nobody hears of it.
        arrived(session.from ?? '')
        return 'drop'
      }
      if (stage === 'rcpt' && dice() < 0.001) return 'hang'
      return stage === 'quit' ? undefined : fault()
    },
    onData: (bytes) => (bytes > 60_000 && dice() < 0.05 ? 'drop' : undefined),
  }
  const sinks = await Promise.all([startSink(options), startSink(options), startSink(options)])
  const client = newClient({ backOff: 20, maxBackOff: 100, budget: 20_000 })
  t.after(() => Promise.all([client.closeAll(), ...sinks.map((sink) => sink.close())]))
  const hops = sinks.map((sink) => sink.address())
  const route = routeTo(hops, { timeout: 2_000, timeoutFinal: 4_000 })

  const counts = { accepted: 0, unsure: 0, refused: 0 }
  const reported = new Map<string, keyof typeof counts>()
  const deliver = async (number: number) => {
    const id = `${number}@a.example`
    const delivery = client.open(route, { mailFrom: id })
    const recipients = ['b@b.example', 'c@b.example'].slice(0, 1 + (number % 2))
    for (const recipient of recipients) await delivery.rcpt(recipient)
    await delivery.hold(delivery.held)
    const message = number % 10 ? 'x\r\n' : Buffer.alloc(400_000, 'line of text\r\n')
    const replies = (await delivery.send(text(message))).map(({ reply }) => reply)
    const is = replies.some(({ code }) => code < 300)
      ? 'accepted'
      : replies.some(({ status, code }) => status === '4.4.2' || code === 421)
        ? 'unsure'
        : 'refused'
    counts[is]++
    reported.set(id, is)
  }
  const numbers = Array.from({ length: 1_000 }, (_, number) => number)
  const worker = async () => {
    for (let number = numbers.pop(); number !== undefined; number = numbers.pop()) await deliver(number)
  }
  await Promise.all(Array.from({ length: 20 }, worker))

  for (const { from } of sinks.flatMap((sink) => sink.messages)) arrived(from)
  for (const [id, is] of reported) {
    const times = arrivals.get(id) ?? 0
    const fine = is === 'accepted' ? times === 1 : is === 'refused' ? times === 0 : times <= 1
    assert.ok(fine, `${id} is ${is} and arrived ${times} times`)
  }
  assert.equal(reported.size, 1_000)
  assert.ok(counts.accepted > 750, JSON.stringify(counts))
  assert.ok(counts.unsure > 10, JSON.stringify(counts))
})
