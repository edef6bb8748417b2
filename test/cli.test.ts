import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { parseHash, verify } from '../plugins/auth/passwords'
import { harakaScript } from './support/install'
import { deadPort, startSink } from './support/sink'

const run = promisify(execFile)
const command = join(__dirname, '..', 'cli', 'index.js')

interface Ended {
  status: number | null
  out: string
  err: string
}

/** Runs `relay-guard …` to its end, with something on its standard input. */
function relayGuard(args: string[], input = '', cwd = tmpdir()): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [command, ...args], { cwd })
    const timer = setTimeout(() => child.kill('SIGKILL'), 60_000)
    let out = ''
    let err = ''
    child.stdout.on('data', (data) => {
      out += data
    })
    child.stderr.on('data', (data) => {
      err += data
    })
    child.once('error', reject)
    child.once('close', (status) => {
      clearTimeout(timer)
      resolve({ status, out, err })
    })
    child.stdin.on('error', () => undefined)
    child.stdin.end(input)
  })
}

let dir: string
before(async () => {
  dir = mkdtempSync(join(tmpdir(), 'relay-guard-cli-'))
  await run(process.execPath, [harakaScript, '-i', dir])
})
after(() => rmSync(dir, { recursive: true, force: true }))

const put = (name: string, text: string) => writeFileSync(join(dir, 'config', name), text)
const ini = (name: string, text: string) => put(join('relay-guard', name), text)
const plugins = (...lines: string[]) => put('plugins', `${lines.join('\n')}\n`)

describe('relay-guard', () => {
  it('without a verb or with one that it does not have says how it is used, and could not run', async () => {
    for (const args of [[], ['__proto__']]) {
      const { status, out, err } = await relayGuard(args)
      assert.deepEqual([status, out], [2, ''])
      assert.match(err, /^usage: relay-guard/)
    }
  })

  it('asked for help is fine', async () => {
    const { status, out } = await relayGuard(['--help'])
    assert.equal(status, 0)
    assert.match(out, /passwd NAME/)
  })

  it('could not run with an option that it does not have, or in a directory that is not Haraka’s', async () => {
    const unknown = await relayGuard(['check', '--bogus'])
    assert.equal(unknown.status, 2)
    assert.match(unknown.err, /^relay-guard: .*--bogus/)
    for (const verb of ['check', 'install']) {
      const { status, out, err } = await relayGuard(['-c', '/nowhere', verb])
      assert.deepEqual([status, out], [2, ''])
      assert.match(
        err,
        /relay-guard: \/nowhere is not Haraka's directory \(there is no config\/plugins\); name it with -c DIR/,
      )
    }
  })
})

describe('relay-guard install', () => {
  it('puts the ini files in place, shows the lines that are missing, and never overwrites', async () => {
    const first = await relayGuard(['install'], '', dir)
    assert.equal(first.status, 0, first.err)
    assert.match(first.out, /^config\/relay-guard\/acl\.ini: put in place$/m)
    for (const line of ['acl', 'auth', 'domains'])
      assert.match(first.out, new RegExp(`^ {2}relay-guard/${line}$`, 'm'))
    const file = join(dir, 'config', 'relay-guard', 'acl.ini')
    const shipped = readFileSync(file, 'utf8')
    assert.equal(shipped, readFileSync(join(__dirname, '..', 'config', 'relay-guard', 'acl.ini'), 'utf8'))
    ini('acl.ini', '[never]\n192.0.2.1\n')
    rmSync(join(dir, 'config', 'relay-guard', 'auth.ini'))
    const { status, out } = await relayGuard(['-c', dir, '--json', 'install'])
    const report = JSON.parse(out) as { copied: string[]; kept: string[]; missing: string[] }
    assert.equal(status, 0)
    assert.deepEqual(report.copied, ['auth.ini'])
    assert.ok(report.kept.includes('acl.ini'))
    assert.equal(readFileSync(file, 'utf8'), '[never]\n192.0.2.1\n')
    assert.ok(existsSync(join(dir, 'config', 'relay-guard', 'auth.ini')))
    ini('acl.ini', shipped)
  })

  it('says of the lines that are there that they are there, and warns of other plugins', async () => {
    plugins('relay', 'haraka-plugin-relay-guard/acl', 'relay-guard/auth', 'relay-guard/domains # ours')
    const { out } = await relayGuard(['-c', dir, '--json', 'install'])
    const report = JSON.parse(out) as { missing: string[]; warnings: string[] }
    for (const line of ['acl', 'auth', 'domains']) assert.ok(!report.missing.includes(`relay-guard/${line}`))
    assert.ok(
      report.warnings.some((warning) =>
        /^config\/plugins: relay decides the same as relay-guard\/acl/.test(warning),
      ),
    )
  })
})

interface Report {
  mistakes: string[]
  warnings: string[]
  nextHops: { domain: string; nextHop: string; ok: boolean; said: string }[]
}

async function check(): Promise<Report & { status: number | null }> {
  const { status, out, err } = await relayGuard(['-c', dir, '--json', 'check'])
  assert.notEqual(status, 2, err)
  return { ...(JSON.parse(out) as Report), status }
}

describe('relay-guard check', () => {
  it('is content with the files as they come', async () => {
    plugins('relay-guard/acl', 'relay-guard/auth', 'relay-guard/domains')
    const { status, mistakes: errors, nextHops, warnings } = await check()
    assert.deepEqual([status, errors, nextHops], [0, [], []])
    assert.deepEqual(warnings, ['domains.ini: no domain is ours, so no mail from outside is taken'])
    const { status: plain, out } = await relayGuard(['-c', dir, 'check'])
    assert.equal(plain, 0)
    assert.match(out, /^The ini files are good\.$/m)
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
    ini('acl.ini', '[relay]\n')
    ini('auth.ini', '[main]\n')
    ini('domains.ini', '[main]\n')
  })

  it('asks each next hop, and sends no mail', async () => {
    const sink = await startSink()
    const lmtp = await startSink({ lmtp: true, path: join(dir, 'lmtp.sock') })
    const dead = await deadPort()
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

  it('warns of what makes a relay in practice', async () => {
    plugins('relay-guard/acl', 'relay-guard/domains')
    const wide = ['0.0.0.0/0.0.0.0', '128.0.0.0/1', '1.0.0.0-255.255.255.255', '::/0', '2000::/3']
    ini('acl.ini', `[relay]\n${wide.join('\n')}\n`)
    const open = await check()
    assert.equal(open.status, 0)
    for (const entry of wide)
      assert.ok(
        open.warnings.includes(`acl.ini [relay] ${entry}: everybody may relay: this is an open relay`),
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
})

describe('relay-guard passwd', () => {
  it('makes a line for [users] of what stands on standard input, and never shows it', async () => {
    const { status, out, err } = await relayGuard(['passwd', 'alice'], 'pässword\nmore\n')
    assert.equal(status, 0, err)
    const [, hash = ''] = /^alice = (\$scrypt\$\S+)\n$/.exec(out) ?? []
    assert.equal(await verify('pässword', parseHash(hash)), true)
    assert.equal(await verify('pässword\nmore', parseHash(hash)), false)
    assert.doesNotMatch(out + err, /ssword/)
  })

  it('gives the line in JSON, also of a password without a line end', async () => {
    const { out } = await relayGuard(['--json', 'passwd', 'bob@a.example'], 'x')
    const { line } = JSON.parse(out) as { line: string }
    assert.equal(await verify('x', parseHash(line.replace('bob@a.example = ', ''))), true)
  })

  it('could not run without a name, with a name that no file can hold, and without a password', async () => {
    for (const args of [[], ['a', 'b'], ['a=b'], ['@a.example']]) {
      const { status, out } = await relayGuard(['passwd', ...args], 'x\n')
      assert.deepEqual([status, out], [2, ''], JSON.stringify(args))
    }
    const { status, err } = await relayGuard(['passwd', 'a'], '\n')
    assert.equal(status, 2)
    assert.match(err, /^relay-guard: the password is empty$/m)
  })
})
