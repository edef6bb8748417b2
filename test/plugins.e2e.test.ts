// The same answers whatever stock plugins run beside ours and in whatever order the lines stand; and each of ours alone.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { ownSender, recipientForms } from './support/battery'
import { type Case, runBattery } from './support/battery-runner'
import { type Haraka, type HarakaOptions, startHaraka } from './support/haraka'
import { seed, shuffled } from './support/random'
import { connectAs, type Kind, kindNames, kinds, startWorld, type World } from './support/world'

const lines = [
  'relay',
  'access',
  'delay_deny',
  'rcpt_to.in_host_list',
  'auth/flat_file',
  'xclient',
  'relay-guard/acl',
  'relay-guard/auth',
  'relay-guard/domains',
]
// The stock plugin refuses what it does not list, so ours are listed as well; a bare <postmaster> cannot be.
const listed = [
  'partner.example',
  'alpha.test',
  'sub.alpha.test',
  'deep.sub.alpha.test',
  'beta.test',
  'gamma.test',
  'xn--bcher-kva.test',
]
const destDomains = `[domains]\n${listed.map((domain) => `${domain}={"action":"accept"}\n`).join('')}`
const everybody = { 'relay.ini': '[relay]\nacl=true\n', relay_acl_allow: '127.0.0.0/8\n' }

/** Without it the stock discard plugin takes nothing. */
const discard = { YES_REALLY_DO_DISCARD: '1' }

const cases = (kind: Kind, column: 'others' | 'relaying'): Case[] =>
  recipientForms.map((form) => ({
    from: ownSender(kind),
    to: form.path,
    expected: form[column],
    mayRelay: column === 'relaying',
    ...(form.arrives !== undefined && { arrives: form.arrives }),
  }))

let world: World
before(async () => {
  world = await startWorld()
})
after(() => world?.close())

async function withHaraka(options: HarakaOptions, use: (haraka: Haraka) => Promise<void>) {
  const haraka = await startHaraka({ tls: true, ...options, files: { ...world.files, ...options.files } })
  try {
    await use(haraka)
    assert.deepEqual(haraka.failures(), [])
  } finally {
    await haraka.stop()
  }
}

const orders: [string, string[]][] = [
  ['stock plugins first', lines],
  ['ours first', [...lines].reverse()],
  [`shuffled with seed ${seed}`, shuffled(lines, seed)],
]

describe('beside stock plugins', () => {
  for (const [name, plugins] of orders) {
    const scope: Kind[] = plugins === lines ? kindNames : ['stranger', 'never, logged in', 'user']
    test(`${scope.join(', ')}: each is answered as the contract says, ${name}`, async () => {
      await withHaraka({ plugins, files: { 'relay_dest_domains.ini': destDomains } }, async (haraka) => {
        for (const kind of scope) {
          const column = kinds[kind].mayRelay ? 'relaying' : 'others'
          const list = cases(kind, column).filter(({ to }) => !/^<postmaster>$/i.test(to))
          assert.deepEqual(await runBattery(world, haraka, kind, 'single', list), [])
        }
      })
    })

    test(`[never] holds against a relay plugin that allows everybody, ${name}`, async () => {
      await withHaraka({ plugins, files: everybody }, async (haraka) => {
        const expected: [Kind, 'others' | 'relaying'][] = [
          ['never', 'others'],
          ['never, logged in', 'others'],
          ['stranger', 'relaying'],
        ]
        for (const [kind, column] of expected) {
          assert.deepEqual(await runBattery(world, haraka, kind, 'pipelined', cases(kind, column)), [])
        }
      })
    })
  }
})

describe('each plugin alone', () => {
  test('acl holds [never] beside a relay plugin that allows everybody', async () => {
    const stock = ['relay', 'delay_deny', 'rcpt_to.in_host_list', 'auth/flat_file', 'queue/discard']
    for (const plugins of [
      [...stock, 'relay-guard/acl'],
      ['relay-guard/acl', ...stock],
    ]) {
      await withHaraka({ plugins, files: everybody, env: discard }, async (haraka) => {
        for (const kind of ['never', 'never, logged in'] as const) {
          const client = await connectAs(kind, haraka.port)
          const sent = await client.deliver({
            from: 'ann@alpha.test',
            to: ['v@victim.example', 'anna@listed.test'],
          })
          assert.deepEqual(
            [...sent.rcpt, sent.dot].map((reply) => reply?.code),
            [550, 250, 250],
            kind,
          )
          await client.quit()
        }
        const client = await connectAs('stranger', haraka.port)
        await client.command('MAIL FROM:<a@evil.example>')
        assert.equal((await client.command('RCPT TO:<v@victim.example>')).code, 250)
        await client.quit()
      })
    }
  })

  test('domains gives every client that is not known the answers of a stranger', async () => {
    await withHaraka({ plugins: ['relay-guard/domains'] }, async (haraka) => {
      const list = cases('stranger', 'others')
      assert.deepEqual(await runBattery(world, haraka, 'stranger', 'single', list), [])
      assert.deepEqual(await runBattery(world, haraka, 'relay', 'single', list), [])
    })
  })

  test('auth holds users to their own addresses and AUTH to its place', async () => {
    const plugins = ['auth/flat_file', 'rcpt_to.in_host_list', 'queue/discard', 'relay-guard/auth']
    await withHaraka({ plugins, env: discard }, async (haraka) => {
      const client = await connectAs('user', haraka.port)
      const codes: [string, number][] = [
        ['ceo@beta.test', 550],
        ['ann@alpha.test', 250],
      ]
      for (const [from, code] of codes) {
        const { mail, rcpt } = await client.deliver({ from, to: ['anna@listed.test'] })
        assert.equal((rcpt[0] ?? mail).code, code)
      }
      await client.quit()
      const late = await connectAs('stranger', haraka.port)
      await late.command('MAIL FROM:<a@evil.example>')
      assert.equal((await late.authPlain('ann@alpha.test', 'x')).code >= 500, true)
      assert.equal((await late.command('RCPT TO:<v@victim.example>')).code, 550)
      await late.quit()
    })
  })
})
