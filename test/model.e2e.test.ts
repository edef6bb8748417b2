// Some thousand random clients, senders and recipients: a real Haraka agrees with a page of naive policy.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { type Haraka, startHaraka } from './support/haraka'
import { isHaraka32 } from './support/install'
import { type ModelAddress, type ModelClient, verdict, written } from './support/model'
import { fc, seed } from './support/random'
import { SmtpClient } from './support/smtp-client'
import { password, startWorld, unknownUser, type World } from './support/world'

const triples = Number(process.env['TRIPLES'] ?? 4000)
/** Triples in one write: three lines each. */
const group = 25

interface Login {
  name?: string
  senders?: string[]
}

const logins: Login[] = [
  {},
  { name: 'ann@alpha.test', senders: ['ann@alpha.test'] },
  { name: 'bob', senders: ['bob@alpha.test'] },
  { name: 'eve', senders: ['eve@alpha.test', 'eve@beta.test', '@gamma.test'] },
]

const addresses: [string, Omit<ModelClient, 'senders'>][] = [
  ['127.10.0.', { never: false, relay: false, spoofAllowed: false }],
  ['127.11.0.', { never: false, relay: false, spoofAllowed: true }],
  ['127.20.0.', { never: true, relay: false, spoofAllowed: false }],
  ['127.30.0.', { never: false, relay: true, spoofAllowed: false }],
]

const localPart = fc.oneof(
  fc.constantFrom('ann', 'bob', 'eve', 'ANN', 'ann+tag', 'bob+a+b', 'annb', unknownUser, `${unknownUser}+x`),
  fc.constantFrom('postmaster', 'Postmaster', 'abuse', "o'hara", 'a.b', 'bounce+v=victim.example'),
  fc.constantFrom('v%victim.example', 'victim.example!v', 'IMCEASMTP-v+40victim+2Eexample', 'imceaex-a'),
  fc.constantFrom('SRS0=aa=bb=victim.example=v', 'a%b%c', 'x-imceasmtp-v'),
  fc.constantFrom(
    isHaraka32 ? '"john.doe"' : '"john doe"',
    '"v@victim.example"',
    '"a,b"',
    '"a%b"',
    '"a!b"',
    '"v\\@victim.example"',
  ),
  fc.stringMatching(/^[a-z0-9][a-z0-9_=-]{0,12}$/),
)

const domain = fc
  .tuple(
    fc.constantFrom('', '', '', 'sub.', 'deep.sub.', 'not'),
    fc.constantFrom(
      'alpha.test',
      'beta.test',
      'gamma.test',
      'victim.example',
      'xn--bcher-kva.test',
      'localhost',
    ),
    fc.boolean(),
  )
  .map(([prefix, name, upper]) => (upper ? (prefix + name).toUpperCase() : prefix + name))

const address: fc.Arbitrary<ModelAddress> = fc.record({
  local: localPart,
  domain,
  route: fc.constantFrom('', '', '', '', '', '', '', '@alpha.test:', '@a.example,@alpha.test:'),
})

const recipient = fc.oneof(
  { weight: 19, arbitrary: address },
  { weight: 1, arbitrary: fc.constant({ local: 'postmaster', domain: '', route: '' }) },
)
const sender = fc.oneof(
  { weight: 9, arbitrary: address.map((a) => ({ ...a, route: '' })) },
  { weight: 1, arbitrary: fc.constant(null) },
)

const modelWorld = {
  domains: { 'alpha.test': true, 'beta.test': false, 'gamma.test': false, 'xn--bcher-kva.test': false },
  unknown: unknownUser,
}

let world: World
let haraka: Haraka
before(async () => {
  world = await startWorld()
  const domains = world.files['relay-guard/domains.ini']!
  haraka = await startHaraka({
    plugins: ['relay-guard/acl', 'relay-guard/auth', 'relay-guard/domains', 'auth/flat_file'],
    tls: true,
    files: {
      ...world.files,
      'relay-guard/domains.ini': domains.replace('[main]\n', '[main]\nspoof_allowed[] = 127.11.0.0/16\n'),
      'relay-guard/auth.ini': world.files['relay-guard/auth.ini']!.replace(
        '[main]\n',
        '[main]\nplaintext_allowed[] = 127.0.0.0/8\n',
      ),
    },
  })
})
after(async () => {
  await haraka?.stop()
  await world?.close()
})

type Triple = [ModelAddress | null, ModelAddress]

/** Puts the triples to Haraka in one session, and returns a line for each where it and the model differ. */
async function differences(ip: string, client: ModelClient, name: string | undefined, list: Triple[]) {
  const session = await SmtpClient.connect({ port: haraka.port, from: ip })
  await session.ehlo()
  if (name) assert.equal((await session.authPlain(name, password)).code, 235)
  const wrong: string[] = []
  for (let at = 0; at < list.length; at += group) {
    const part = list.slice(at, at + group)
    const replies = await session.pipeline(
      part.flatMap(([from, to]) => [
        `MAIL FROM:${from ? written(from) : '<>'}`,
        `RCPT TO:${written(to)}`,
        'RSET',
      ]),
    )
    part.forEach(([from, to], n) => {
      const [mail, rcpt] = replies.slice(3 * n, 3 * n + 2)
      const reply = mail!.code === 250 ? rcpt! : mail!
      const expected = verdict(modelWorld, client, from, to)
      if (reply.code === expected.code && (expected.code === 250 || reply.status === expected.status)) return
      const sent = `${ip} ${name ?? ''}: ${from ? written(from) : '<>'} to ${written(to)}`
      wrong.push(`${sent}: "${reply.lines.join(' ')}", the model says ${expected.code} ${expected.status}`)
    })
  }
  await session.quit()
  return wrong
}

test(`${triples} random triples get the model’s answer (seed ${seed})`, async () => {
  const clients = addresses.flatMap(([prefix, who]) =>
    logins.map((login, n) => ({ ip: prefix + (n + 1), who, login })),
  )
  const share = Math.ceil(triples / clients.length)
  const wrong = await Promise.all(
    clients.map(({ ip, who, login }, n) => {
      const list: Triple[] = fc.sample(fc.tuple(sender, recipient), { seed: seed + n, numRuns: share })
      const client = { ...who, ...(login.senders && { senders: login.senders }) }
      return differences(ip, client, login.name, list)
    }),
  )
  assert.deepEqual(wrong.flat().slice(0, 20), [])
  for (const sink of [world.smtp, world.lmtp, world.internet]) assert.deepEqual(sink.messages, [])
  assert.deepEqual(haraka.failures(), [])
})
