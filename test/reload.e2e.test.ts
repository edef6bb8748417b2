// Ini files with errors: Haraka does not start with them, and a running one keeps the last good configuration.
import assert from 'node:assert/strict'
import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { type Haraka, startHaraka, startHarakaExpectingFailure } from './support/haraka'
import { until } from './support/patience'
import { freePort } from './support/ports'
import { type Sink, startSink } from './support/sink'
import { SmtpClient } from './support/smtp-client'

const plugins = ['relay-guard/acl', 'relay-guard/auth', 'relay-guard/domains']

const acl = '[relay]\n127.30.0.0/16 = branch\n127.0.0.0/16 = for the wider never\n[never]\n127.20.0.0/16\n'
const wider = acl.replace('[never]', '127.33.0.0/16 = new branch\n[never]')
const auth = '[main]\nsender = address\n'
const hash = `$scrypt$ln=15,r=8,p=1$${'A'.repeat(22)}$${'A'.repeat(43)}`
const twoNames = `[users]\nalice = ${hash}\nalice@ours.test = ${hash}\n`
let sink: Sink
let domains: string
before(async () => {
  sink = await startSink()
  domains = `[main]\nsmarthost = ${sink.address()}\n[ours.test]\nnext_hop = ${sink.address()}\ntls = none\n`
})
after(() => sink?.close())

const files = () => ({
  'relay-guard/acl.ini': acl,
  'relay-guard/auth.ini': auth,
  'relay-guard/domains.ini': domains,
})

/** The answer to RCPT, the session closed. */
async function rcpt(haraka: Haraka, from: string, to: string): Promise<number> {
  const client = await SmtpClient.connect({ port: haraka.port, from })
  await client.ehlo()
  await client.command('MAIL FROM:<a@evil.example>')
  const { code } = await client.command(`RCPT TO:<${to}>`)
  await client.quit()
  return code
}

/** The configuration above is in force. */
async function stillGood(haraka: Haraka) {
  assert.equal(await rcpt(haraka, '127.30.0.1', 'v@victim.example'), 250)
  assert.equal(await rcpt(haraka, '127.20.0.1', 'v@victim.example'), 550)
  assert.equal(await rcpt(haraka, '127.10.0.1', 'v@victim.example'), 550)
  assert.equal(await rcpt(haraka, '127.10.0.1', 'anna@ours.test'), 250)
}

/** Waits until this recipient gets this code from this client. */
async function untilAnswered(haraka: Haraka, from: string, to: string, code: number) {
  const isSo = async () => (await rcpt(haraka, from, to)) === code
  await until(isSo, () => `${to} from ${from} is ${code}:\n${haraka.output().slice(-2000)}`)
}

interface ConfigError {
  name: string
  file: 'acl' | 'auth' | 'domains'
  text: () => string
  line: RegExp
}

const errors: ConfigError[] = [
  {
    name: 'an unknown key, with the nearest known name',
    file: 'domains',
    text: () => domains.replace('smarthost', 'smarthots'),
    line: /domains\.ini \[main\] smarthots: .*smarthost\b/,
  },
  {
    name: 'an unknown section, with the nearest known name',
    file: 'acl',
    text: () => acl.replace('[never]', '[nevr]'),
    line: /acl\.ini \[nevr\].*: .*never/,
  },
  {
    name: 'a value that is not allowed',
    file: 'auth',
    text: () => auth.replace('address', 'everybody'),
    line: /auth\.ini \[main\] sender: .*any.*domain.*address/,
  },
  {
    name: 'a prefix that is too long',
    file: 'acl',
    text: () => acl.replace('127.30.0.0/16', '127.30.0.0/33'),
    line: /acl\.ini \[relay\] 127\.30\.0\.0\/33: /,
  },
  {
    name: 'a subnet with host bits',
    file: 'acl',
    text: () => acl.replace('127.30.0.0/16', '127.30.0.1/16'),
    line: /acl\.ini \[relay\] 127\.30\.0\.1\/16: /,
  },
  {
    name: 'a key given twice',
    file: 'domains',
    text: () => domains.replace('tls = none', 'tls = none\ntls = may'),
    line: /domains\.ini \[ours\.test\] tls: /,
  },
  {
    name: 'a line that cannot be read',
    file: 'domains',
    text: () => domains.replace('tls = none', '<<<<<<< HEAD'),
    line: /domains\.ini \[ours\.test\] line \d+: cannot be read/,
  },
  {
    name: 'a file cut off in the middle of a line',
    file: 'domains',
    text: () => domains.slice(0, domains.indexOf('_hop')),
    line: /domains\.ini \[ours\.test\] next.*: /,
  },
  {
    name: 'a domain without a next hop',
    file: 'domains',
    text: () => `${domains}[bare.test]\n`,
    line: /domains\.ini \[bare\.test\].*next_hop/,
  },
]

describe('at the start', () => {
  test('all errors of all files are said at once, one a line, and Haraka does not start', async () => {
    const broken = {
      'relay-guard/acl.ini': '[relay]\n127.30.0.0/33\n127.30.0.1/16 = x\n[nevr]\n127.20.0.0/16\n',
      'relay-guard/auth.ini': '[main]\nsender = everybody\nrequire_tsl = true\n',
      'relay-guard/domains.ini':
        '[main]\nsmarthots = x\nanti_spoof = maybe\n[a.test]\nnext_hop = smtp://x:99999\n[b.test]\n',
    }
    const lines = [
      /acl\.ini \[relay\] 127\.30\.0\.0\/33: /,
      /acl\.ini \[relay\] 127\.30\.0\.1\/16: /,
      /acl\.ini \[nevr\].*never/,
      /auth\.ini \[main\] sender: /,
      /auth\.ini \[main\] require_tsl: .*require_tls/,
      /domains\.ini \[main\] smarthots: .*smarthost/,
      /domains\.ini \[main\] anti_spoof: .*reject.*tag.*off/,
      /domains\.ini \[a\.test\] next_hop: /,
      /domains\.ini \[b\.test\].*next_hop/,
    ]
    for (const [nodes, order] of [
      [0, plugins],
      [0, [...plugins].reverse()],
      [2, plugins],
    ] as const) {
      const { code, output } = await startHarakaExpectingFailure({
        plugins: [...order],
        nodes,
        files: broken,
      })
      assert.notEqual(code, 0)
      for (const line of lines)
        assert.equal(output.split('\n').filter((l) => line.test(l)).length, 1, `${line}\n${output}`)
      assert.doesNotMatch(output, /istening on/)
      assert.doesNotMatch(output, /^.*CRIT.* at .*\.js/m, 'and without a stack')
    }
  })

  for (const { name, file, text, line } of errors) {
    test(`${name} stops Haraka`, async () => {
      const { code, output } = await startHarakaExpectingFailure({
        plugins,
        files: { ...files(), [`relay-guard/${file}.ini`]: text() },
      })
      assert.notEqual(code, 0)
      assert.match(output, line)
    })
  }

  test('two names of one user stop Haraka, in whatever order the lines stand, and only where both are one user', async () => {
    const broken = { ...files(), 'relay-guard/auth.ini': twoNames }
    const orders = [
      ['relay-guard/auth', 'relay-guard/domains'],
      ['relay-guard/auth', 'relay-guard/domains', 'relay-guard/acl'],
      ['relay-guard/domains', 'relay-guard/auth'],
    ]
    for (const order of orders) {
      const { code, output } = await startHarakaExpectingFailure({ plugins: order, files: broken })
      assert.notEqual(code, 0)
      assert.equal(output.match(/auth\.ini \[users\] line 3: is the same user as /g)?.length, 1, output)
      assert.match(output, /has errors \(1\), listed above; Haraka does not start/)
    }
    await (await startHaraka({ plugins: ['relay-guard/auth'], files: broken })).stop()
  })

  test('a directory in place of a file stops Haraka', async () => {
    const { 'relay-guard/acl.ini': _, ...rest } = files()
    const directory = { ...rest, 'relay-guard/acl.ini/x': '' }
    const { code, output } = await startHarakaExpectingFailure({ plugins, files: directory })
    assert.notEqual(code, 0)
    assert.match(output, /acl\.ini/)
  })
})

/** One error a file at a time: each round breaks all three files, as far as there are errors left. */
const rounds: ConfigError[][] = []
for (const error of errors) {
  const free = rounds.find((round) => round.every(({ file }) => file !== error.file))
  if (free) free.push(error)
  else rounds.push([error])
}

/** A Haraka of its own for the tests of this group, which follow each other. */
function running(nodes = 0): () => Haraka {
  let haraka: Haraka
  // Of this Haraka alone. Next hops' passwords are in its files: no copy is there, so none is left however it ends.
  const temp = mkdtempSync(join(tmpdir(), 'relay-guard-temp-'))
  const left = () => [
    ...readdirSync(temp),
    ...readdirSync('/dev/shm').filter((name) => name.startsWith(`relay-guard-${haraka.pid}-`)),
  ]
  before(async () => {
    haraka = await startHaraka({ plugins, files: files(), nodes, env: { TMPDIR: temp } })
  })
  test(`keeps no copy of a file with passwords, with ${nodes} workers`, () => assert.deepEqual(left(), []))
  after(async () => {
    await haraka?.stop()
    assert.deepEqual(left(), [])
    assert.deepEqual(haraka?.failures(), [])
    rmSync(temp, { recursive: true, force: true })
  })
  return () => haraka
}

const path = (haraka: Haraka, file: string) => join(haraka.dir, 'config', 'relay-guard', file)

const asRoot = process.geteuid?.() === 0 ? {} : { skip: 'needs root, to go on as another user' }

test(
  'workers that go on as nobody and their root master keep one configuration when only root can read the new one',
  asRoot,
  async () => {
    const port = await freePort()
    const smtp = `listen=127.0.0.1:${port}\nnodes=2\nuser=nobody\ngroup=nogroup\n`
    const haraka = await startHaraka({
      plugins,
      nodes: 2,
      listen: `127.0.0.1:${port}`,
      files: { ...files(), 'smtp.ini': smtp },
    })
    try {
      const said = (pattern: RegExp) => haraka.output().match(new RegExp(pattern, 'g'))?.length ?? 0
      // mkdtemp makes a directory that only root may enter.
      assert.equal(said(/acl\.ini cannot be read by nobody, as whom Haraka goes on/), 1)
      chmodSync(haraka.dir, 0o755)
      const own = path(haraka, 'acl.ini')
      writeFileSync(`${own}.new`, '[reject]\n127.0.0.0/8\n', { mode: 0o600 })
      renameSync(`${own}.new`, own)
      await haraka.waitForLog(/acl\.ini: cannot be read: EACCES/)
      const [victim = 0] = haraka.workers()
      process.kill(victim, 'SIGKILL')
      await until(() => said(/worker \d+ listening/) >= 3)
      for (let round = 0; round < 4; round++) await stillGood(haraka)
      assert.equal(said(/acl\.ini: cannot be read: EACCES/), 1)
      assert.equal(said(/acl\.ini was read again and is in force/), 0)
      assert.deepEqual(haraka.failures(), [])
    } finally {
      await haraka.stop()
    }
  },
)

describe('while it runs', { concurrency: true }, () => {
  // Each reload takes some five seconds of waiting, so what need not follow each other has a Haraka of its own.
  for (const half of [0, 1])
    describe(`an error, half ${half + 1} of 2`, { concurrency: 1 }, () => {
      const haraka = running()
      for (const round of rounds.filter((_, index) => index % 2 === half)) {
        test(`is said in the log and changes nothing: ${round.map(({ name }) => name).join('; ')}`, async () => {
          for (const { file, text } of round) haraka().write(`relay-guard/${file}.ini`, text(), 'in place')
          for (const { line } of round) await haraka().waitForLog(line)
          await stillGood(haraka())
        })
      }

      test('does not keep the next good file from counting', async () => {
        const good = { ...files(), 'relay-guard/acl.ini': wider }
        for (const [file, text] of Object.entries(good)) haraka().write(file, text)
        await untilAnswered(haraka(), '127.33.0.1', 'v@victim.example', 250)
        await stillGood(haraka())
      })
    })

  describe('a file that is whole or not', { concurrency: 1 }, () => {
    const haraka = running()
    test('that is empty is not taken as meant', async () => {
      haraka().write('relay-guard/acl.ini', '', 'in place')
      haraka().write('relay-guard/domains.ini', '', 'in place')
      await haraka().waitForLog(/acl\.ini\b/)
      await haraka().waitForLog(/domains\.ini\b/)
      await stillGood(haraka())
      haraka().write('relay-guard/domains.ini', domains, 'in place')
    })

    test('that is cut inside a line does not count before it is whole', async () => {
      haraka().write('relay-guard/acl.ini', '[relay]\n127.0.0.0/8\n[never]\n127.20.0.0', 'in place')
      await haraka().waitForLog(/acl\.ini: the last line has no line end/)
      await stillGood(haraka())
      appendFileSync(path(haraka(), 'acl.ini'), '/16\n')
      await untilAnswered(haraka(), '127.33.0.1', 'v@victim.example', 250)
      assert.equal(await rcpt(haraka(), '127.20.0.1', 'v@victim.example'), 550)
    })

    test('that is good counts without a restart: entries, a new domain, a section taken away', async () => {
      haraka().write('relay-guard/acl.ini', '[never]\n127.20.0.0/16\n')
      haraka().write(
        'relay-guard/domains.ini',
        `${domains}[new.test]\nnext_hop = ${sink.address()}\ntls = none\n`,
      )
      await untilAnswered(haraka(), '127.30.0.1', 'v@victim.example', 550)
      await untilAnswered(haraka(), '127.10.0.1', 'anna@new.test', 250)
      assert.equal(await rcpt(haraka(), '127.10.0.1', 'anna@ours.test'), 250)
      haraka().write('relay-guard/acl.ini', acl)
      await untilAnswered(haraka(), '127.30.0.1', 'v@victim.example', 250)
    })
  })

  describe('a list file', { concurrency: 1 }, () => {
    const haraka = running()
    test('that is cut or emptied changes nothing: strangers could relay', async () => {
      const list = path(haraka(), 'list.txt')
      writeFileSync(list, '127.40.0.0/16\n')
      haraka().write('relay-guard/acl.ini', `${acl}[files]\nrelay[] = ${list}\n`)
      await untilAnswered(haraka(), '127.40.0.1', 'v@victim.example', 250)
      for (const [text, said] of [
        ['0.0.0.0/1', /acl\.ini \[files\] \S+list\.txt: the last line has no line end/],
        ['', /acl\.ini \[files\] \S+list\.txt: is empty/],
      ] as const) {
        writeFileSync(list, text)
        await haraka().waitForLog(said)
        await stillGood(haraka())
        assert.equal(await rcpt(haraka(), '127.40.0.1', 'v@victim.example'), 250)
      }
    })
  })

  describe('a file', { concurrency: 1 }, () => {
    const haraka = running()
    test('that makes one user of two names in auth.ini is followed by an error that says so', async () => {
      haraka().write('relay-guard/auth.ini', twoNames.replace('ours.test', 'elsewhere.test'))
      await haraka().waitForLog(/auth\.ini was read again and is in force/)
      const [main = '', ours = ''] = domains.split(/(?=\[ours\.test\])/)
      haraka().write('relay-guard/domains.ini', `${main}[elsewhere.test]\ndelivery = plugin\n${ours}`)
      await haraka().waitForLog(/auth\.ini \[users\] line 3: is the same user as /)
      await stillGood(haraka())
    })
  })

  describe('a file that is gone', { concurrency: 1 }, () => {
    const haraka = running()
    test('and has become a directory changes nothing', async () => {
      rmSync(path(haraka(), 'acl.ini'))
      mkdirSync(path(haraka(), 'acl.ini'))
      await haraka().waitForLog(/acl\.ini: cannot be read: it is not a regular file/)
      await stillGood(haraka())
    })

    test('and not there any more changes nothing, and one line says so', async () => {
      rmSync(path(haraka(), 'acl.ini'), { recursive: true })
      rmSync(path(haraka(), 'domains.ini'))
      await haraka().waitForLog(/config\/relay-guard\/acl\.ini was removed; .*until Haraka is restarted/)
      await haraka().waitForLog(/domains\.ini was removed/)
      await stillGood(haraka())
    })
  })

  describe('a worker', { concurrency: 1 }, () => {
    const haraka = running(2)
    test('killed while a file is broken comes back with the last good configuration', async () => {
      haraka().write('relay-guard/acl.ini', wider)
      const inForce = () =>
        haraka()
          .output()
          .match(/acl\.ini was read again and is in force/g)?.length ?? 0
      await until(
        () => inForce() >= 3,
        () => `the master and both workers: ${inForce()} of 3`,
      )
      haraka().write('relay-guard/acl.ini', '[relay]\n0.0.0.0/33\n')
      haraka().write('relay-guard/domains.ini', '[ours.test]\nnext_ho')
      await haraka().waitForLog(/acl\.ini \[relay\] 0\.0\.0\.0\/33: /)
      await haraka().waitForLog(/domains\.ini \[ours\.test\].*next_ho/)
      for (const victim of haraka().workers()) {
        process.kill(victim, 'SIGKILL')
        const listening = () =>
          haraka()
            .output()
            .match(/worker \d+ listening/g)?.length ?? 0
        const had = listening()
        await until(() => listening() > had)
      }
      assert.equal(
        haraka()
          .output()
          .match(/worker started/g)?.length,
        4,
        'each is forked again once',
      )
      const errors = haraka()
        .output()
        .match(/acl\.ini \[relay\] 0\.0\.0\.0\/33: /g)
      assert.equal(errors?.length, 1, 'an error is logged once a server, not once a process')
      for (let round = 0; round < 8; round++) {
        await stillGood(haraka())
        assert.equal(await rcpt(haraka(), '127.33.0.1', 'v@victim.example'), 250)
      }
    })
  })
})
