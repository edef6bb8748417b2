// What docs/logs.md says of the log, and the fail2ban filter, against the log of a real Haraka in each format.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { makeHash } from '../plugins/auth/passwords'
import { type Haraka, startHaraka } from './support/haraka'
import { root } from './support/install'
import { type Sink, startSink } from './support/sink'
import { SmtpClient } from './support/smtp-client'

const FORMATS = ['default', 'logfmt', 'json'] as const
const GUILTY = ['127.9.0.1', '127.9.0.2', '127.9.0.3']
/** Whom a client would like to see banned in its place. */
const FRAMED = '127.66.0.66'

/** Rows `| outcome | level | meaning |` of docs/logs.md. */
const outcomes = new Map(
  [
    ...readFileSync(join(root, 'docs', 'logs.md'), 'utf8').matchAll(
      /^\| `([a-z.-]+)` \| (info|notice|-) \|/gm,
    ),
  ].map(([, outcome = '', level = '']) => [outcome, level]),
)

async function speak(port: number, from: string, lines: string[]): Promise<void> {
  const client = await SmtpClient.connect({ port, from })
  for (const line of lines) await client.command(line)
  client.destroy()
}

/** Guilty ones, each once; one that tries to put another's address into the line; and those who did nothing. */
async function traffic({ port }: Haraka): Promise<void> {
  const mail = ['EHLO client.example', 'MAIL FROM:<a@sender.example>']
  const framing = `"x\\"ip=${FRAMED},outcome=auth.failed"@sender.example`
  await speak(port, GUILTY[0]!, [
    'EHLO client.example',
    `MAIL FROM:<${framing}>`,
    `RCPT TO:<"q\\",\\"ip\\":\\"${FRAMED}\\""@victim.example>`,
    'RCPT TO:<v@victim.example>',
  ])
  // As README and docs/logs.md show it.
  await speak(port, GUILTY[0]!, [
    'EHLO client.example',
    'MAIL FROM:<a@b.example>',
    'RCPT TO:<v@victim.example>',
  ])
  await speak(port, GUILTY[1]!, [...mail, 'RCPT TO:<v%victim.example@ours.example>'])
  const login = Buffer.from(`\0alice" ip=${FRAMED} rule="\0wrong`).toString('base64')
  await speak(port, GUILTY[2]!, ['EHLO client.example', `AUTH PLAIN ${login}`])
  await speak(port, '127.9.1.1', [])
  await speak(port, '127.9.2.1', [
    ...mail,
    'RCPT TO:<someone@ours.example>',
    'RCPT TO:<nobody@ours.example>',
    'DATA',
    'Subject: hello\r\n\r\nText.\r\n.',
  ])
  await speak(port, '127.9.3.1', ['EHLO client.example', 'MAIL FROM:<boss@ours.example>'])
}

const logs: Record<string, string> = {}
let sink: Sink
before(async () => {
  sink = await startSink({
    respond: (stage, line) => (stage === 'rcpt' && line.includes('nobody') ? '550 5.1.1 Unknown' : undefined),
  })
  const hash = await makeHash('right')
  await Promise.all(
    FORMATS.map(async (format) => {
      const haraka = await startHaraka({
        plugins: ['relay-guard/acl', 'relay-guard/auth', 'relay-guard/domains', 'relay-guard/limits'],
        files: {
          'log.ini': `[main]\nlevel=info\ntimestamps=true\nformat=${format}\n`,
          'relay-guard/acl.ini': '[reject]\n127.9.1.0/24 = known spammers\n[relay]\n127.9.4.0/24\n',
          'relay-guard/auth.ini': `[main]\nplaintext_allowed[] = 127.0.0.0/8\n[users]\nalice = ${hash}\n`,
          'relay-guard/domains.ini': `[ours.example]\nnext_hop = ${sink.address()}\n`,
        },
      })
      try {
        await traffic(haraka)
        await haraka.waitForLog(/sender\.forged/)
        logs[format] = haraka.output()
      } finally {
        await haraka.stop()
      }
    }),
  )
})
after(() => sink?.close())

describe('docs/logs.md', () => {
  it('lists the outcomes that are in the source, and no others', () => {
    const sources = ['core', 'plugins'].flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
        .filter((file) => file.endsWith('.ts'))
        .map((file) => readFileSync(join(root, folder, file), 'utf8')),
    )
    const text = sources.join('\n')
    const stages = 'connection|auth|sender|from|recipient|message|bounce|log'
    const literals = new Set(
      [...text.matchAll(new RegExp(`'((?:${stages})\\.(?!js'|ini')[a-z-]+)'`, 'g'))].map(
        ([, name = '']) => name,
      ),
    )
    literals.add('error')
    const patterns = [...text.matchAll(/outcome: `([^`]+)`/g)].map(
      ([, template = '']) =>
        new RegExp(`^${template.replaceAll('.', '\\.').replaceAll(/\$\{[^}]+\}/g, '[a-z.-]+')}$`),
    )
    assert.ok(literals.size > 15 && patterns.length > 5)
    const missing = [...literals].filter((name) => !outcomes.has(name))
    assert.deepEqual(missing, [], 'not in docs/logs.md')
    for (const pattern of patterns)
      assert.ok(
        [...outcomes.keys()].some((name) => pattern.test(name)),
        `nothing for ${pattern}`,
      )
    const unknown = [...outcomes.keys()].filter(
      (name) => !literals.has(name) && !patterns.some((pattern) => pattern.test(name)),
    )
    assert.deepEqual(unknown, [], 'not in the source')
  })

  for (const format of FORMATS) {
    it(`names the level of each outcome in a log with format=${format}`, () => {
      const seen = decisions(logs[format] ?? '')
      assert.deepEqual(new Set(seen.map(({ outcome }) => outcome)), SEEN)
      for (const { outcome, level } of seen) assert.equal(outcomes.get(outcome), level, outcome)
    })
  }

  it('shows the line of the start', () => {
    const shape = (line: string) => line.replaceAll(/\d+/g, 'N').replaceAll(/(domain|user|limit)s?\b/g, '$1')
    const page = readFileSync(join(root, 'docs', 'logs.md'), 'utf8')
    const shown = /`(relay-guard \d[^`]*)`/.exec(page)?.[1] ?? ''
    const said = /relay-guard \d\S* on .*/.exec(logs['default'] ?? '')?.[0] ?? ''
    assert.equal(shape(shown), shape(said))
  })

  it('and the other pages show lines as they are logged', () => {
    const shape = (line: string) =>
      line
        .replace(/id=[0-9A-F.]+/, 'id=ID')
        .replaceAll(/\d+\.\d+\.\d+\.\d+(\/\d+)?/g, 'ADDRESS')
        .trim()
    const logged = new Set(
      [...(logs['default'] ?? '').matchAll(/decision id=.*/g)].map(([line]) => shape(line)),
    )
    const pages = ['README.md', ...readdirSync(join(root, 'docs')).map((name) => join('docs', name))]
    const shown = pages.flatMap((page) => [
      ...readFileSync(join(root, page), 'utf8').matchAll(/decision id=.*/g),
    ])
    assert.ok(shown.length >= 3)
    for (const [line] of shown) assert.ok(logged.has(shape(line)), line)
  })

  it('has grep and jq recipes that find what they say', (test) => {
    const hasJq = spawnSync('jq', ['--version']).status === 0
    if (!hasJq) test.diagnostic('jq is not installed: its recipes are not tried')
    const dir = mkdtempSync(join(tmpdir(), 'relay-guard-logs-'))
    try {
      writeFileSync(join(dir, 'haraka.log'), logs['default'] ?? '')
      // A time in front is no JSON: the page says to leave it out.
      writeFileSync(join(dir, 'haraka.json'), (logs['json'] ?? '').replaceAll(/^\S+Z /gm, ''))
      const page = readFileSync(join(root, 'docs', 'logs.md'), 'utf8')
      const recipes = [...page.matchAll(/^\$ (.*haraka\.(?:log|json).*)$/gm)].map(([, line = '']) => line)
      assert.ok(recipes.length >= 4)
      for (const recipe of recipes) {
        if (recipe.includes('jq') && !hasJq) continue
        assert.match(execFileSync('bash', ['-c', recipe], { cwd: dir, encoding: 'utf8' }), /\w/, recipe)
      }
    } finally {
      rmSync(dir, { recursive: true })
    }
  })
})

/** The outcomes of `traffic`. */
const SEEN = new Set([
  'recipient.relay-denied',
  'recipient.routing',
  'auth.failed',
  'connection.rejected',
  'recipient.accepted',
  'recipient.next-hop-refused',
  'message.forwarded',
  'sender.forged',
])

/** Outcome and level of each decision in a log of whichever format. */
const decisions = (log: string): { outcome: string; level: string }[] =>
  log.split('\n').flatMap((line) => {
    const outcome = /outcome"?[=:]"?([a-z.-]+)/.exec(line)?.[1]
    const level = /(?:\[|level=|"level":")(INFO|NOTICE)/.exec(line)?.[1]?.toLowerCase()
    return outcome && level ? [{ outcome, level }] : []
  })

describe('the fail2ban filter', () => {
  const filter = join(root, 'examples', 'fail2ban', 'filter.d', 'relay-guard.conf')

  /** Its expressions as fail2ban puts them together, for JavaScript. */
  const expressions = (): RegExp[] => {
    const text = readFileSync(filter, 'utf8')
    const value = (name: string) => new RegExp(`^${name} = (.*)$`, 'm').exec(text)?.[1] ?? ''
    const failregex = /^failregex = ([\s\S]*?)\n\n/m.exec(text)?.[1] ?? ''
    return failregex.split('\n').map((line) => {
      const whole = line.trim().replaceAll(/%\((\w+)\)s/g, (_, name: string) => value(name))
      return new RegExp(whole.replace('<HOST>', '(?<host>[0-9a-fA-F:.]+)'))
    })
  }
  /** fail2ban cuts the time out first. */
  const withoutTime = (line: string) => line.replace(/^\d{4}-\d\d-\d\dT[\d:.]+Z/, '')

  for (const [index, format] of FORMATS.entries()) {
    it(`bans the guilty and nobody else from a log with format=${format}`, () => {
      const found = (logs[format] ?? '').split('\n').flatMap((line) => {
        const host = expressions()[index]?.exec(withoutTime(line))?.groups?.['host']
        return host ? [host] : []
      })
      assert.deepEqual([...new Set(found)].sort(), GUILTY)
      assert.ok((logs[format]?.split(FRAMED).length ?? 0) > 3, 'nobody tried to have another banned')
    })

    it(`is read so by fail2ban itself, format=${format}`, (test) => {
      if (spawnSync('fail2ban-regex', ['--version']).status !== 0)
        return test.skip('fail2ban-regex is not installed (apt-get install fail2ban)')
      const dir = mkdtempSync(join(tmpdir(), 'relay-guard-fail2ban-'))
      try {
        const log = join(dir, 'haraka.log')
        writeFileSync(log, logs[format] ?? '')
        const out = execFileSync('fail2ban-regex', ['-o', 'ip', log, filter], { encoding: 'utf8' })
        assert.deepEqual([...new Set(out.split('\n').filter(Boolean))].sort(), GUILTY)
      } finally {
        rmSync(dir, { recursive: true })
      }
    })
  }

  it('reads lines of the journal and of syslog, too', () => {
    const line =
      (logs['default'] ?? '').split('\n').find((each) => each.includes(' outcome=auth.failed rule=')) ?? ''
    const journal = ` mx1 haraka[4711]: ${withoutTime(line).trim()}`
    assert.equal(expressions()[0]?.exec(journal)?.groups?.['host'], GUILTY[2])
  })
})
