// A real disk that fills while mail flows: no message is lost, none is halved, and mail is taken again when there is room.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import { type Haraka, type HarakaOptions, startHaraka } from './support/haraka'
import { randomFrom } from './support/random'
import { until } from './support/redis'
import { type Sink, startSink } from './support/sink'
import { mountSmallDisk, type SmallDisk } from './support/small-disk'
import { SmtpClient } from './support/smtp-client'

interface Scene {
  disk: SmallDisk
  sink: Sink
  haraka: Haraka
  /** From now on the next hop takes what waits. */
  release(): void
}

/** A Haraka whose queue is on the disk, and a next hop that says "later". */
async function begin(
  t: TestContext,
  mount: string,
  overload: string,
  options: Partial<HarakaOptions> = {},
): Promise<Scene | undefined> {
  const disk = mountSmallDisk(t, mount)
  if (!disk) return undefined
  let isOpen = false
  const sink = await startSink({
    respond: (stage) => (stage === 'rcpt' && !isOpen ? '451 4.3.0 later' : undefined),
  })
  t.after(() => sink.close())
  const haraka = await startHaraka({
    plugins: ['relay-guard/acl', 'relay-guard/domains', 'relay-guard/overload'],
    ...options,
    files: {
      queue_dir: `${disk.path}\n`,
      'log.ini': '[main]\nlevel=notice\n',
      'outbound.ini': '[main]\ntemp_fail_intervals=5s*100\n',
      'relay-guard/acl.ini': '[relay]\n127.30.0.0/16\n',
      'relay-guard/domains.ini': `[main]\nsmarthost = ${sink.address()}\n[ours.test]\nnext_hop = ${sink.address()}\ndelivery = queue\nverify = none\ntls = none\n`,
      'relay-guard/overload.ini': overload,
      ...options.files,
    },
  })
  t.after(() => haraka.stop())
  const release = () => {
    isOpen = true
  }
  return { disk, sink, haraka, release }
}

const digest = (text: string) => createHash('sha256').update(text).digest('hex')
/** What the message is, without what servers on the way add. */
const bodyOf = (data: Buffer | string) =>
  digest(data.toString('latin1').split('\r\n\r\n').slice(1).join('\r\n\r\n'))

function message(number: number, bytes: number): string {
  const line = `${String(number).padStart(6, '0')} ${'x'.repeat(70)}\r\n`
  return `Subject: ${number}\r\nFrom: <a@b.test>\r\n\r\n${line.repeat(Math.ceil(bytes / line.length))}`
}

interface Outcome {
  /** Bodies that were answered 250, and how many. */
  accepted: Map<string, number>
  /** Replies that refused, with how often. */
  refused: Map<string, number>
  leastFree: { bytes: number; files: number }
}

/** `clients` at once send until `enough`, each message of another size, with and without SIZE, to one or two domains. */
async function pour(
  { disk, haraka }: Scene,
  { clients, largest, enough }: { clients: number; largest: number; enough(outcome: Outcome): boolean },
): Promise<Outcome> {
  const outcome: Outcome = { accepted: new Map(), refused: new Map(), leastFree: disk.free() }
  const random = randomFrom(7)
  let number = 0
  const look = () => {
    const { bytes, files } = disk.free()
    outcome.leastFree.bytes = Math.min(outcome.leastFree.bytes, bytes)
    outcome.leastFree.files = Math.min(outcome.leastFree.files, files)
  }
  const watching = setInterval(look, 2)
  const one = async (index: number) => {
    const from = index % 3 === 0 ? `127.30.0.${index + 1}` : `127.0.1.${index + 1}`
    const client = await SmtpClient.connect({ port: haraka.port, from })
    await client.ehlo()
    while (!enough(outcome)) {
      const data = message(++number, Math.ceil(random() * largest))
      const to = index % 3 === 0 ? ['anna@ours.test', 'bert@else.test'] : ['anna@ours.test']
      const parameters = random() < 0.5 ? { parameters: `SIZE=${data.length}` } : {}
      const {
        mail,
        rcpt,
        data: go,
        dot,
      } = await client.deliver({ from: 'a@b.test', to, data, ...parameters })
      const reply = dot ?? go ?? rcpt.find(({ code }) => code !== 250) ?? mail
      if (reply.code === 250) outcome.accepted.set(bodyOf(data), to.length)
      else {
        const said = `${reply.code} ${reply.status}`
        outcome.refused.set(said, (outcome.refused.get(said) ?? 0) + 1)
        assert.match(reply.text, /\(id [0-9A-F]{8}\.\d+\)/)
      }
    }
    await client.quit()
  }
  await Promise.all(Array.from({ length: clients }, (_, index) => one(index)))
  clearInterval(watching)
  look()
  return outcome
}

const refusals = ({ refused }: Outcome) => [...refused.values()].reduce((a, b) => a + b, 0)

/** Each accepted message arrives whole, once for each of its domains, and nothing else does. */
async function allArrive({ haraka, sink, release, disk }: Scene, outcomes: Outcome[]) {
  release()
  await until(() => readdirSync(disk.path).length === 0, 60_000, 'an empty queue')
  const expected = new Map(outcomes.flatMap(({ accepted }) => [...accepted]))
  const arrived = new Map<string, number>()
  for (const { data } of sink.messages) arrived.set(bodyOf(data), (arrived.get(bodyOf(data)) ?? 0) + 1)
  assert.deepEqual([...arrived].sort(), [...expected].sort())
  assert.deepEqual(haraka.failures(), [])
}

for (const nodes of [0, 3])
  test(`a disk that fills while mail flows is never full, and nothing is lost (${nodes} workers)`, async (t) => {
    const scene = await begin(t, 'size=12m', '[disk]\nmin_free = 2M\nmin_free_inodes = off\n', { nodes })
    if (!scene) return
    const { haraka } = scene
    const first = await pour(scene, {
      clients: 24,
      largest: 400_000,
      enough: (outcome) => refusals(outcome) > 200,
    })
    t.diagnostic(
      JSON.stringify({ ...first.leastFree, accepted: first.accepted.size, refused: [...first.refused] }),
    )
    assert.deepEqual([...first.refused.keys()], ['452 4.3.1'])
    assert.ok(first.accepted.size > 20)
    assert.doesNotMatch(haraka.output(), /ENOSPC/)
    assert.ok(first.leastFree.bytes > 2 ** 20, `${first.leastFree.bytes} bytes were free`)
    await allArrive(scene, [first])
  })
