import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { askNextHops } from '../cli/check/ask'
import { unresolvedLines } from '../cli/haraka-plugins'
import { readDomains } from '../plugins/domains/config'
import { HarakaDir, inShell, relayGuard } from './support/command'
import { harakaHome } from './support/install'
import { freePort } from './support/ports'
import { readText } from './support/reading'
import { RedisServer } from './support/redis'
import { startSink } from './support/sink'

let haraka: HarakaDir
let dir: string
before(async () => {
  haraka = await HarakaDir.make()
  dir = haraka.dir
})
after(() => haraka.remove())

const put = (name: string, text: string) => haraka.put(name, text)
const ini = (name: string, text: string) => haraka.ini(name, text)
const plugins = (...lines: string[]) => haraka.plugins(...lines)

interface Report {
  mistakes: string[]
  warnings: string[]
  nextHops: { domain: string; nextHop: string; reached: boolean; ok: boolean; said: string }[]
  redis?: { ok: boolean; said: string }
  smarthost: { nextHop: string; reached: boolean; ok: boolean; said: string }[]
}

async function check(): Promise<Report & { status: number | null }> {
  const { status, out, err } = await relayGuard(['-c', dir, '--json', 'check'])
  assert.notEqual(status, 2, err)
  return { ...(JSON.parse(out) as Report), status }
}

describe('relay-guard check', () => {
  it('is content with the files as they come', async () => {
    plugins('tls', 'relay-guard/acl', 'relay-guard/auth', 'relay-guard/domains')
    const { status, mistakes: errors, nextHops, warnings } = await check()
    assert.deepEqual([status, errors, nextHops], [0, [], []])
    assert.deepEqual(warnings, ['domains.ini: no domain is ours, so no mail from outside is taken'])
    const { status: plain, out, err } = await relayGuard(['-c', dir, 'check'])
    assert.deepEqual([plain, err], [0, ''])
    assert.match(out, /\nThe ini files are good\.\n$/)
  })

  it('prints the errors of all files as the server does, and asks nobody then', async () => {
    ini('acl.ini', '[realy]\n')
    ini('auth.ini', '[main]\nsender = all\n')
    ini('domains.ini', '[a.example]\nnext_hop =\n[b.example]\nnext_hop = smtp://127.0.0.1:1\n')
    const { status, mistakes: errors, nextHops } = await check()
    assert.equal(status, 1)
    assert.deepEqual(nextHops, [])
    assert.deepEqual(errors, [
      'acl.ini [realy]: is not a section of this file; did you mean [relay]?',
      'auth.ini [main] sender: is not one of any, domain, address',
      'domains.ini [a.example] next_hop: is empty',
    ])
    const { status: plain, out } = await relayGuard(['check', '-c', dir])
    assert.equal(plain, 1)
    assert.match(out, /^error: domains\.ini \[a\.example\] next_hop: is empty$/m)
    assert.doesNotMatch(out, /are good/)
    assert.match(out, /\nNot good: 3 errors\.\n$/)
    ini('acl.ini', '[relay]\n')
    ini('auth.ini', '[main]\n')
    ini('domains.ini', '[main]\n')
  })

  it('finds errors also in a file whose line is not there yet, and says that it is not', async () => {
    plugins('tls', 'relay-guard/domains')
    ini('auth.ini', '[main]\nsender = all\n')
    const { status, mistakes, warnings } = await check()
    assert.equal(status, 1)
    assert.deepEqual(mistakes, ['auth.ini [main] sender: is not one of any, domain, address'])
    assert.ok(
      warnings.some((line) =>
        /relay-guard\/auth is not there, so nothing of auth\.ini is in force/.test(line),
      ),
    )
    ini('auth.ini', '[main]\n')
  })

  it('takes two names for one user where the server does: with the line of domains, wherever it stands', async () => {
    const hash = `$scrypt$ln=15,r=8,p=1$${'A'.repeat(22)}$${'A'.repeat(43)}`
    ini('auth.ini', `[users]\nalice = ${hash}\nalice@a.example = ${hash}\n`)
    ini('domains.ini', '[a.example]\ndelivery = plugin\n')
    const [auth, domains] = ['relay-guard/auth', 'relay-guard/domains']
    for (const [lines, errors] of [
      [[auth, domains], 1],
      [[domains, auth], 1],
      [[auth], 0],
    ] as const) {
      plugins('tls', ...lines)
      assert.equal((await check()).mistakes.length, errors, lines.join())
    }
    ini('auth.ini', '[main]\n')
    ini('domains.ini', '[main]\n')
  })

  it('asks each next hop, and sends no mail', async () => {
    const sink = await startSink()
    const lmtp = await startSink({ lmtp: true, path: join(dir, 'lmtp.sock') })
    const dead = await freePort()
    try {
      ini(
        'domains.ini',
        `[a.example]\nnext_hop = ${sink.address()}\n[b.example]\nnext_hop = ${lmtp.address()}\n`,
      )
      const good = await check()
      assert.equal(good.status, 0)
      assert.deepEqual(
        good.nextHops.map(({ domain, nextHop, ok }) => [domain, nextHop, ok]),
        [
          ['a.example', sink.address(), true],
          ['b.example', lmtp.address(), true],
        ],
      )
      assert.deepEqual(sink.rcpts, ['postmaster@a.example'])
      assert.deepEqual([...sink.messages, ...lmtp.messages], [])
      ini('domains.ini', `[a.example]\nnext_hop = ${sink.address()}, smtp://127.0.0.1:${dead}\n`)
      const bad = await check()
      assert.equal(bad.status, 1)
      assert.deepEqual(
        bad.nextHops.map(({ ok }) => ok),
        [true, false],
      )
      const { out } = await relayGuard(['-c', dir, 'check'])
      assert.match(out, new RegExp(`^NOT reached: smtp://127\\.0\\.0\\.1:${dead} for a\\.example: 451`, 'm'))
    } finally {
      await sink.close()
      await lmtp.close()
      ini('domains.ini', '[main]\n')
    }
  })

  it('sees a next hop that is this server, by smtp.ini', async () => {
    put('smtp.ini', 'port=2525\nlisten=127.0.0.1:2526\n')
    ini('domains.ini', '[a.example]\nnext_hop = smtp://127.0.0.1:2526, smtp://u:hunter2@127.0.0.1:2525\n')
    const { status, mistakes: errors } = await check()
    assert.equal(status, 1)
    assert.deepEqual(errors, [
      'domains.ini [a.example] next_hop: smtp://127.0.0.1:2526 is a listener of this server itself: mail would go round in a circle',
      'domains.ini [a.example] next_hop: number 2: smtp://127.0.0.1:2525 is a listener of this server itself: mail would go round in a circle',
    ])
    put('smtp.ini', '')
    ini('domains.ini', '[main]\n')
  })

  it('says of a list file that lets everybody relay which line it is', async () => {
    plugins('relay-guard/acl', 'relay-guard/domains')
    const list = join(dir, 'config', 'list.txt')
    put('list.txt', '192.0.2.0/24\n0.0.0.0/1\n128.0.0.0/1\n')
    ini('acl.ini', `[files]\nrelay[] = ${list}\n`)
    const { status, mistakes } = await check()
    assert.equal(status, 1)
    assert.deepEqual(
      mistakes,
      [2, 3].map(
        (line) =>
          `acl.ini [files] relay[] = ${list} line ${line}: everybody may relay: this is an open relay`,
      ),
    )
    ini('acl.ini', '[relay]\n')
  })

  it('names the aliases that lead out of our domains, and the queue plugins that get nothing or come first', async () => {
    plugins(
      'relay-guard/acl',
      'relay-guard/domains',
      'aliases',
      'queue/deliver',
      'queue/discard',
      'queue/own',
    )
    put(
      'aliases.json',
      JSON.stringify({
        'out@a.example': { action: 'alias', to: 'x@elsewhere.example' },
        both: { action: 'alias', to: ['a@a.example', 'b@elsewhere.example'] },
        'in@a.example': { action: 'alias', to: ['a@A.example', 'local'] },
        'drop@a.example': { action: 'drop' },
      }),
    )
    ini('domains.ini', '[a.example]\nnext_hop = smtp://127.0.0.1:1\n')
    const { warnings } = await check()
    assert.deepEqual(
      warnings.filter((warning) => /alias|queue/.test(warning)),
      [
        'config/plugins: queue/deliver gets no mail, as no domain has delivery = plugin',
        'config/plugins: queue/own comes before relay-guard/domains at the queue, and may take mail that domains.ini sends elsewhere',
        'config/aliases: out@a.example, both stand for addresses that are not ours: refused, 550 5.7.1, for clients that may not relay',
      ],
    )
    rmSync(join(dir, 'config', 'aliases.json'))
    ini('domains.ini', '[main]\n')
  })

  it('warns of what makes a relay in practice', async () => {
    plugins('relay-guard/acl', 'relay-guard/domains')
    const wide = ['0.0.0.0/0.0.0.0', '128.0.0.0/1', '1.0.0.0-255.255.255.255', '::/0', '2000::/3']
    ini('acl.ini', `[relay]\n${wide.join('\n')}\n`)
    const open = await check()
    assert.equal(open.status, 1)
    for (const entry of wide)
      assert.ok(
        open.mistakes.includes(`acl.ini [relay] ${entry}: everybody may relay: this is an open relay`),
        entry,
      )
    ini(
      'acl.ini',
      '[relay]\n10.0.0.0/8\n192.0.2.0/24\n[listener]\n192.0.2.10\n192.0.2.11 = from 192.0.2.0/24\n',
    )
    ini('domains.ini', '[main]\nbounce = send\n[a.example]\ndelivery = plugin\n')
    const { warnings } = await check()
    assert.deepEqual(
      warnings.map((warning) => warning.replace(/: .*/, '')),
      [
        'acl.ini [listener] 192.0.2.10',
        'acl.ini [relay] 10.0.0.0/8',
        'domains.ini [main] anti_spoof',
        'domains.ini [main] bounce = send',
      ],
    )
    ini('acl.ini', '[relay]\n')
    ini('domains.ini', '[main]\n')
  })

  it('finds each line of config/plugins as Haraka does, or says which one it does not', async () => {
    mkdirSync(join(dir, 'plugins'), { recursive: true })
    writeFileSync(join(dir, 'plugins', 'local.js'), '')
    // Core's own, a dependency of core, a name that Haraka replaces, one of the directory, and ours in both ways.
    plugins(
      'tls',
      'queue/discard',
      'spf',
      'rdns.regexp',
      'local',
      'relay-guard/acl',
      'haraka-plugin-relay-guard/auth',
    )
    assert.deepEqual((await check()).mistakes, [])
    plugins(
      'relay-guard/limit',
      'tsl',
      'quue/smtp_forward',
      'relay-guard/domains # ours',
      'nothing-that-anybody-has',
      '; a comment',
      '# another',
    )
    const { status, mistakes } = await check()
    const nothing = 'Haraka finds no plugin of this name'
    assert.equal(status, 1)
    assert.deepEqual(mistakes, [
      `config/plugins relay-guard/limit: ${nothing}; did you mean relay-guard/limits?`,
      `config/plugins tsl: ${nothing}; did you mean tls?`,
      `config/plugins quue/smtp_forward: ${nothing}; did you mean queue/smtp_forward?`,
      `config/plugins relay-guard/domains # ours: ${nothing}; a comment must stand on a line of its own`,
      `config/plugins nothing-that-anybody-has: ${nothing}`,
    ])
  })

  it('asks the Haraka in the directory that it is called in', async () => {
    const link = join(dir, 'node_modules', 'Haraka')
    symlinkSync(harakaHome, link)
    try {
      plugins('tsl')
      const { status, out } = await relayGuard(['check'], '', dir)
      assert.equal(status, 1)
      assert.match(out, /^error: config\/plugins tsl: .*did you mean tls\?$/m)
    } finally {
      rmSync(link)
    }
  })

  it('says once that it finds no Haraka to ask', () => {
    assert.equal(unresolvedLines(['tls', 'relay-guard/limit'], dir, undefined), undefined)
    assert.equal(unresolvedLines(['tls'], dir, '/nowhere'), undefined)
  })

  it('tells a next hop that refuses or defers postmaster from one that takes it', async () => {
    const refusing = await startSink({
      respond: (stage) => (stage === 'rcpt' ? '554 5.7.1 Not for you' : undefined),
    })
    const deferring = await startSink({
      respond: (stage) => (stage === 'mail' ? '450 4.7.0 Greylisted' : undefined),
    })
    try {
      plugins('tls', 'spf', 'relay-guard/domains')
      ini(
        'domains.ini',
        `[a.example]\nnext_hop = ${refusing.address()}\n[b.example]\nnext_hop = ${deferring.address()}\n`,
      )
      const { status, out } = await relayGuard(['-c', dir, 'check'])
      assert.equal(status, 1)
      assert.deepEqual(out.trim().split('\n'), [
        `reached, but postmaster@a.example is not taken: ${refusing.address()} for a.example: 554 5.7.1 Not for you`,
        `reached, but postmaster@b.example is not taken: ${deferring.address()} for b.example: 450 4.7.0 Greylisted`,
        `Not good: ${refusing.address()}, ${deferring.address()}.`,
      ])
    } finally {
      await refusing.close()
      await deferring.close()
      ini('domains.ini', '[main]\n')
    }
  })

  it('greets the smarthost and logs in, and names it no sender and no recipient', async () => {
    const smarthost = await startSink({ users: { u: 'p' } })
    const dead = await freePort()
    try {
      const at = (password: string, port = smarthost.port) => `smtp://u:${password}@127.0.0.1:${port}`
      ini('domains.ini', `[main]\nsmarthost = ${at('p')}\n`)
      const good = await check()
      assert.equal(good.status, 0)
      assert.deepEqual(good.smarthost, [
        {
          nextHop: `smtp://***@127.0.0.1:${smarthost.port}`,
          reached: true,
          ok: true,
          said: 'no TLS, logged in',
        },
      ])
      ini('domains.ini', `[main]\nsmarthost = ${at('wrong')}, ${at('p', dead)}\n`)
      const bad = await check()
      assert.equal(bad.status, 1)
      assert.deepEqual(
        bad.smarthost.map(({ ok }) => ok),
        [false, false],
      )
      assert.doesNotMatch(JSON.stringify(bad), /wrong/)
      assert.doesNotMatch(smarthost.lines.join('\n'), /^(MAIL|RCPT)/im)
    } finally {
      await smarthost.close()
      ini('domains.ini', '[main]\n')
    }
  })

  it('gives each question its own time: none passes while it waits for a connection of ours', async () => {
    const slow = await startSink({
      respond: async (stage) => {
        if (stage === 'rcpt') await sleep(200)
        return undefined
      },
    })
    // One after the other they take longer than one of them may.
    const sections = Array.from(
      { length: 20 },
      (_, i) => `[d${i}.example]\nnext_hop = ${slow.address()}\nconnections = 1\n`,
    )
    const text = sections.join('')
    const world = { ownListener: () => false, hostName: 'mx.example' }
    const { value, errors } = readText('domains.ini', text, (reading) => readDomains(reading, world))
    assert.deepEqual(errors, [])
    const answers = await askNextHops(value, 'mx.example', { patience: 2500 })
    await slow.close()
    assert.deepEqual(
      answers.map(({ domain, ok }) => [domain, ok]),
      sections.map((_, i) => [`d${i}.example`, true]),
    )
  })

  it('asks a next hop that answers nobody once, not for each of its domains', async () => {
    const hung = await startSink({ respond: () => 'hang' })
    const sections = Array.from(
      { length: 20 },
      (_, i) => `[d${i}.example]\nnext_hop = ${hung.address()}\nconnections = 1\n`,
    )
    const world = { ownListener: () => false, hostName: 'mx.example' }
    const { value } = readText('domains.ini', sections.join(''), (reading) => readDomains(reading, world))
    const answers = await askNextHops(value, 'mx.example', { patience: 500 })
    await hung.close()
    assert.equal(answers.length, 20)
    assert.deepEqual(
      answers.map(({ domain, reached }) => [domain, reached]),
      sections.map((_, i) => [`d${i}.example`, false]),
    )
    assert.ok(hung.connections < 5, `${hung.connections} connections`)
  })

  it('says of Redis what the server will see', async () => {
    const acl = (name: string, ...rules: string[]) => ['--user', name, 'on', '>pw', ...rules]
    const all = ['+@all', '~relay-guard:*']
    const redis = await RedisServer.start(
      ...acl('good', ...all),
      ...acl('noscripts', ...all, '-@scripting'),
      ...acl('others', '+@all', '~other:*'),
      ...acl('noselect', ...all, '-select'),
    )
    const cases: [string, RegExp | string][] = [
      ['username = good', 'answers'],
      ['username = good\ndatabase = 3', 'answers'],
      ['username = good\ndatabase = 99', /^SELECT 99: ERR DB index is out of range; without it/],
      ['username = noselect\ndatabase = 3', /^SELECT 3: NOPERM /],
      ['username = noscripts', /^NOPERM .*eval/],
      ['username = others', /^NOPERM .*keys/],
    ]
    try {
      plugins('tls', 'relay-guard/limits')
      for (const [lines, said] of cases) {
        ini('redis.ini', `[redis]\nport = ${redis.port}\npassword = pw\n${lines}\n`)
        const report = await check()
        const isGood = said === 'answers'
        assert.deepEqual([report.status, report.redis?.ok], [isGood ? 0 : 1, isGood], lines)
        if (typeof said === 'string') assert.equal(report.redis?.said, said)
        else assert.match(report.redis?.said ?? '', said)
      }
    } finally {
      await redis.stop()
      rmSync(join(dir, 'config', 'relay-guard', 'redis.ini'))
    }
  })

  it('ends with its own exit status where whoever reads has gone', async () => {
    plugins('tls', 'relay-guard/acl', 'relay-guard/domains')
    ini('acl.ini', `[relay]\n${Array.from({ length: 5000 }, (_, i) => `entry-${i}`).join('\n')}\n`)
    const { status, out, err } = await inShell('set -o pipefail; relay-guard check | head -1; echo $?', dir)
    assert.deepEqual([status, err], [0, ''])
    assert.match(out, /^error: acl\.ini .*\n1\n$/)
    ini('acl.ini', '[relay]\n')
  })
})

describe('docs/command.md', () => {
  it('shows what check prints', async () => {
    const sink = await startSink({
      respond: (stage) => (stage === 'rcpt' ? '554 5.7.1 Access denied' : undefined),
    })
    try {
      plugins('spf', 'relay-guard/acl', 'relay-guard/auth', 'relay-guard/domains', 'relay-guard/limit')
      rmSync(join(dir, 'config', 'relay-guard', 'auth.ini'), { force: true })
      ini('acl.ini', '[relay]\n0.0.0.0/0\n')
      ini('domains.ini', `[example.com]\nnext_hop = ${sink.address()}\n`)
      const { out } = await relayGuard(['-c', dir, 'check'])
      const page = readFileSync(join(__dirname, '..', 'docs', 'command.md'), 'utf8')
      const shown = /\$ npx relay-guard check\n(.*?)```/s.exec(page)?.[1]
      assert.equal(out.replaceAll(sink.address(), 'smtp://10.0.0.5:25'), shown)
    } finally {
      await sink.close()
    }
  })
})
