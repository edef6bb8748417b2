// A real disk that fills while mail flows: no message is lost, none is halved, and mail is taken again when there is room.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { type Haraka, type HarakaOptions, installHaraka, startHaraka } from './support/haraka'
import { until } from './support/patience'
import { randomFrom, seed } from './support/random'
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
      // How busy this machine is must decide nothing.
      'relay-guard/overload.ini': `${overload}[load]\nmax_delay = off\nmax_memory = off\n`,
      ...options.files,
    },
  })
  t.after(() => haraka.stop())
  const release = () => {
    isOpen = true
  }
  return { disk, sink, haraka, release }
}

/** Haraka's own connection.ini, with each message spooled to this folder. */
async function spooling(path: string): Promise<string> {
  const usual = readFileSync(join(await installHaraka(), 'config', 'connection.ini'), 'utf8')
  return usual.replace('[main]\n', `[main]\nspool_after=0\nspool_dir=${path}\n`)
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

const random = randomFrom(seed)
/** Of all messages: no two are the same. */
let number = 0

/** `clients` at once send until `enough`, each message of another size, with and without SIZE, to one or two domains. */
async function pour(
  { disk, haraka }: Scene,
  { clients, largest, enough }: { clients: number; largest: number; enough(outcome: Outcome): boolean },
): Promise<Outcome> {
  const outcome: Outcome = { accepted: new Map(), refused: new Map(), leastFree: disk.free() }
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
        if (reply.code > 0) assert.match(reply.text, /\(id [0-9A-F]{8}\.\d+\)/)
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
  await until(() => readdirSync(disk.path).length === 0, 'an empty queue')
  const expected = new Map(outcomes.flatMap(({ accepted }) => [...accepted]))
  const arrived = new Map<string, number>()
  for (const { data } of sink.messages) arrived.set(bodyOf(data), (arrived.get(bodyOf(data)) ?? 0) + 1)
  assert.deepEqual([...arrived].sort(), [...expected].sort())
  assert.deepEqual(haraka.failures(), [])
}

async function isTaken({ port }: Haraka): Promise<boolean> {
  const client = await SmtpClient.connect({ port, from: '127.0.1.1' })
  await client.ehlo()
  const { dot } = await client.deliver({ from: 'a@b.test', to: ['anna@ours.test'] })
  await client.quit()
  return dot?.code === 250
}

// They wait for the next try of what is in the queue most of the time.
describe('a small disk', { concurrency: true }, () => {
  for (const nodes of [0, 3])
    test(`a disk that fills while mail flows is never full, nothing is lost, and mail is taken again (${nodes} workers)`, async (t) => {
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
      assert.ok(first.accepted.size > 5)
      assert.doesNotMatch(haraka.output(), /ENOSPC/)
      assert.ok(first.leastFree.bytes > 2 ** 20, `${first.leastFree.bytes} bytes were free`)
      await allArrive(scene, [first])
      await until(() => isTaken(haraka), 'mail to be taken again')
    })

  test('files that run out are refused like bytes, and mail is taken again when the queue has emptied', async (t) => {
    const overload = '[disk]\nmin_free = off\nmin_free_inodes = 20%\n'
    const scene = await begin(t, 'size=64m,nr_inodes=100', overload)
    if (!scene) return
    const { haraka, release } = scene
    const first = await pour(scene, {
      clients: 8,
      largest: 3000,
      enough: (outcome) => refusals(outcome) > 100,
    })
    t.diagnostic(
      JSON.stringify({ ...first.leastFree, accepted: first.accepted.size, refused: [...first.refused] }),
    )
    assert.deepEqual([...first.refused.keys()], ['452 4.3.1'])
    assert.ok(first.leastFree.files >= 20, `${first.leastFree.files} files were free`)
    await haraka
      .waitForLog(/overload: inodes \d+\.\d% free \(min 20%\): mail is refused with 452/)
      .catch(() => undefined)
    release()
    await until(() => readdirSync(scene.disk.path).length === 0, 'an empty queue')
    const again = await pour(scene, {
      clients: 4,
      largest: 3000,
      enough: ({ accepted }) => accepted.size > 10,
    })
    await allArrive(scene, [first, again])
    assert.doesNotMatch(haraka.output(), /ENOSPC/)
  })

  test('max_files holds for the queue, and mail is taken again when it has emptied', async (t) => {
    const overload = '[disk]\nmin_free = off\nmin_free_inodes = off\n[queue]\nmax_files = 20\n'
    const scene = await begin(t, 'size=64m', overload)
    if (!scene) return
    const { haraka, disk, release } = scene
    const first = await pour(scene, {
      clients: 2,
      largest: 3000,
      enough: (outcome) => refusals(outcome) > 20,
    })
    assert.deepEqual([...first.refused.keys()], ['452 4.3.1'])
    assert.ok(readdirSync(disk.path).length > 20)
    await haraka.waitForLog(/overload: queue more than 20 files \(max 20\): mail is refused with 452/)
    release()
    await haraka.waitForLog(/overload over: queue \d+ files \(max 20\)/)
    const again = await pour(scene, {
      clients: 2,
      largest: 3000,
      enough: ({ accepted }) => accepted.size > 5,
    })
    await allArrive(scene, [first, again])
  })
})

describe('a disk that another program has filled', { concurrency: true }, () => {
  const off = '[disk]\nmin_free = off\nmin_free_inodes = off\n'
  const lines = ['relay-guard/acl', 'relay-guard/domains']
  for (const [what, plugins, reply] of [
    ['with overload', [...lines, 'relay-guard/overload'], '450 4.3.1'],
    ['without it', lines, '450 4.3.1'],
  ] as const)
    test(`halves no message, and none is accepted that is not stored, ${what}`, async (t) => {
      const scene = await begin(t, 'size=1m', off, { plugins: [...plugins] })
      if (!scene) return
      const { haraka } = scene
      const outcome = await pour(scene, {
        clients: 6,
        largest: 900_000,
        enough: (so) => refusals(so) > 150,
      })
      assert.deepEqual([...outcome.refused.keys()], [reply])
      assert.match(haraka.output(), /ENOSPC/)
      if (what === 'with overload') assert.match(haraka.output(), /outcome=message\.overload/)
      await allArrive(scene, [outcome])
    })

  test("is no reason for a 550 where core's own queue takes relayed mail", async (t) => {
    const scene = await begin(t, 'size=1m', off, { plugins: ['relay-guard/acl', 'relay-guard/overload'] })
    if (!scene) return
    const client = await SmtpClient.connect({ port: scene.haraka.port, from: '127.30.0.1' })
    await client.ehlo()
    const { dot } = await client.deliver({ from: 'a@b.test', to: ['c@d.test'], data: message(1, 2 ** 21) })
    assert.equal(`${dot?.code} ${dot?.status}`, '452 4.3.1')
    await client.quit()
    assert.deepEqual(readdirSync(scene.disk.path), [])
  })

  test('is found out for spool files, too: what was not written whole is not delivered', async (t) => {
    const spool = mountSmallDisk(t, 'size=1m')
    if (!spool) return
    const scene = await begin(t, 'size=64m', off, {
      files: {
        'connection.ini': await spooling(spool.path),
      },
    })
    if (!scene) return
    const expected: string[] = []
    // Around the size at which only the last write fails, whose error comes after the end.
    for (let bytes = 2 ** 20 - 20_000; bytes < 2 ** 20 + 60_000; bytes += 8000) {
      const client = await SmtpClient.connect({ port: scene.haraka.port })
      await client.ehlo()
      const data = message(bytes, bytes)
      const { dot } = await client.deliver({ from: 'a@b.test', to: ['anna@ours.test'], data })
      if (dot?.code === 250) expected.push(bodyOf(data))
      else assert.equal(dot?.code, 421, dot?.text)
      client.destroy()
      await until(() => readdirSync(spool.path).length === 0)
    }
    assert.ok(expected.length > 0 && expected.length < 10)
    scene.release()
    await until(() => readdirSync(scene.disk.path).length === 0, 'an empty queue')
    assert.deepEqual(scene.sink.messages.map(({ data }) => bodyOf(data)).sort(), expected.sort())
  })
})

describe('what clients are sending counts', { concurrency: true }, () => {
  const room = '[disk]\nmin_free = 2M\nmin_free_inodes = off\n'
  const M = 2 ** 20
  const session = async ({ haraka }: Scene, from = '127.0.2.1') => {
    const client = await SmtpClient.connect({ port: haraka.port, from })
    await client.ehlo()
    return client
  }
  const mail = (client: SmtpClient, size?: number) =>
    client.command(`MAIL FROM:<a@b.test>${size === undefined ? '' : ` SIZE=${size}`}`)
  const isTaken = async (client: SmtpClient, size?: number) => {
    const { code, status, text } = await mail(client, size)
    if (code !== 250)
      assert.match(
        `${code} ${status} ${text}`,
        /^452 4\.3\.1 4\.3\.1 Not enough disk space, try again later \(id /,
      )
    return code === 250
  }

  test('as announced, until it is given up, and over all workers', async (t) => {
    const scene = await begin(t, 'size=12m', room, { nodes: 2 })
    if (!scene) return
    const clients = await Promise.all([1, 2, 3, 4, 5, 6].map((n) => session(scene, `127.0.2.${n}`)))
    assert.equal(await isTaken(clients[0]!, 11 * M), false)
    assert.equal(await isTaken(clients[0]!, 6 * M), true)
    // Whichever worker they came to.
    const others = clients.slice(1)
    for (const client of others)
      await until(async () => {
        const taken = await isTaken(client, 5 * M)
        if (taken) await client.command('RSET')
        return !taken
      })
    for (const client of others) {
      assert.equal(await isTaken(client, 2 * M), true)
      await client.command('RSET')
    }
    clients[0]!.destroy()
    for (const client of others) await until(() => isTaken(client, 1.5 * M))
    assert.doesNotMatch(scene.haraka.output(), /overload: disk/)
  })

  test('as it comes, without SIZE', async (t) => {
    const scene = await begin(t, 'size=12m', room)
    if (!scene) return
    const [silent, other] = [await session(scene), await session(scene)]
    assert.equal(await isTaken(silent), true)
    assert.equal((await silent.command('RCPT TO:<anna@ours.test>')).code, 250)
    assert.equal((await silent.command('DATA')).code, 354)
    const data = message(1, 6 * M)
    silent.raw(data)
    await until(async () => {
      const taken = await isTaken(other, 5 * M)
      if (taken) await other.command('RSET')
      return !taken
    })
    silent.raw('.\r\n')
    assert.equal((await silent.reply()).code, 250)
    assert.equal(await isTaken(other, 5 * M), false)
    scene.release()
    await until(() => readdirSync(scene.disk.path).length === 0, 'an empty queue')
    await until(() => isTaken(other, 5 * M))
    assert.deepEqual(
      scene.sink.messages.map((each) => bodyOf(each.data)),
      [bodyOf(data)],
    )
  })

  test('in the spool folder, too, where a message without SIZE ends before the disk is full', async (t) => {
    const spool = mountSmallDisk(t, 'size=12m')
    if (!spool) return
    const scene = await begin(t, 'size=64m', room.replace('2M', '8M'), {
      files: { 'connection.ini': await spooling(spool.path) },
    })
    if (!scene) return
    const [silent, other] = [await session(scene), await session(scene)]
    assert.equal(await isTaken(other, 5 * M), false)
    assert.equal(await isTaken(other, 3 * M), true)
    assert.equal(await isTaken(silent), true)
    await silent.command('RCPT TO:<anna@ours.test>')
    await silent.command('DATA')
    silent.raw(message(1, 9 * M))
    const { code, text } = await silent.reply()
    assert.equal(code, 421)
    assert.match(text, /^4\.3\.1 Not enough disk space, try again later \(id /)
    await scene.haraka.waitForLog(
      /outcome=message\.overload .*detail="disk [\d.]+M free for spool files \(min 8M\)"/,
    )
    await until(() => readdirSync(spool.path).length === 0)
    assert.doesNotMatch(scene.haraka.output(), /ENOSPC/)
    assert.deepEqual(scene.haraka.failures(), [])
  })
})

test('mail of the server itself is queued while all others are refused', async (t) => {
  const own = `
exports.register = function () { this.register_hook('noop', 'write') }
exports.write = function (next) {
  const outbound = this.haraka_require('outbound')
  outbound.send_email('<>', '<a@ours.test>', 'Subject: a DSN\\r\\n\\r\\nno\\r\\n', (code) => next(code))
}
`
  const scene = await begin(t, 'size=8m', '[disk]\nmin_free = 20M\n', {
    plugins: ['relay-guard/acl', 'relay-guard/domains', 'relay-guard/overload', 'own'],
    localPlugins: { own },
  })
  if (!scene) return
  const client = await SmtpClient.connect({ port: scene.haraka.port, from: '127.30.0.1' })
  await client.ehlo()
  await scene.haraka.waitForLog(/overload: disk 8\.0M free \(min 20M\): mail is refused with 452/)
  assert.equal((await client.command('MAIL FROM:<a@b.test>')).code, 452)
  assert.equal((await client.command('NOOP')).code, 250)
  assert.equal(readdirSync(scene.disk.path).length, 1)
  await client.quit()
})
