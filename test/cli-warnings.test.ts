// What relay-guard check says of configurations, as tables.
import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { openRelays } from '../cli/check/acl'
import { isGood, printReport, type Report } from '../cli/check/print'
import { readConfiguration } from '../cli/check/read'
import { warningsOf } from '../cli/check/warnings'
import { harakaAt } from '../cli/haraka-dir'
import { HarakaDir } from './support/command'

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

describe('the warnings of relay-guard check', () => {
  const ours = [
    'tls',
    'spf',
    'relay-guard/acl',
    'relay-guard/auth',
    'relay-guard/domains',
    'relay-guard/limits',
  ]
  const domain = '[a.example]\nnext_hop = smtp://192.0.2.25\n'
  const cases: { what: string; lines?: string[]; files: Record<string, string>; warning?: RegExp }[] = [
    { what: 'nothing', files: {} },
    {
      what: 'auth without tls',
      lines: ours.filter((line) => line !== 'tls'),
      files: {},
      warning:
        /^config\/plugins: relay-guard\/auth without the line tls: .*nobody can log in but on port 465/,
    },
    {
      what: 'another auth plugin without tls',
      lines: ['spf', 'auth/flat_file', 'relay-guard/domains'],
      files: {},
      warning: /^config\/plugins: auth\/flat_file without the line tls: .*passwords are sent in clear/,
    },
    ...Object.entries({
      acl: '[relay]\n192.0.2.1\n',
      auth: '[senders]\nalice = alice@a.example\n',
      limits: '[connections per ip]\nlimit = 1/1m\n',
    }).map(([plugin, text]) => ({
      what: `${plugin}.ini filled without its line`,
      lines: ours.filter((line) => line !== `relay-guard/${plugin}`),
      files: { [`${plugin}.ini`]: text },
      warning: new RegExp(
        `^config/plugins: the line relay-guard/${plugin} is not there, so nothing of ${plugin}\\.ini`,
      ),
    })),
    {
      what: 'everybody may write in our name',
      files: { 'domains.ini': `[main]\nspoof_allowed[] = 0.0.0.0/0\n${domain}` },
      warning: /^domains\.ini \[main\] spoof_allowed: nearly everybody/,
    },
    {
      what: 'nearly everybody, in pieces',
      files: { 'domains.ini': `[main]\nspoof_allowed = 0.0.0.0/2, 64.0.0.0/2, 2000::/4\n${domain}` },
      warning: /^domains\.ini \[main\] spoof_allowed: nearly everybody/,
    },
    {
      what: 'passwords in clear',
      files: { 'auth.ini': '[main]\nrequire_tls = false\n' },
      warning: /^auth\.ini \[main\] require_tls = false: /,
    },
    {
      what: 'passwords in clear from everywhere',
      files: { 'auth.ini': '[main]\nplaintext_allowed[] = ::/0\n' },
      warning: /^auth\.ini \[main\] plaintext_allowed: /,
    },
    {
      what: 'a listener for everybody, spelled out',
      files: { 'acl.ini': '[listener]\n192.0.2.10 = from 0.0.0.0/0\n' },
      warning: /^acl\.ini \[listener\] 192\.0\.2\.10: whoever can reach this address/,
    },
    ...['relay', 'relay_acl', 'relay_all', 'relay_force_routing'].map((line) => ({
      what: line,
      lines: [...ours, line],
      files: {},
      warning: new RegExp(`^config/plugins: ${line} decides the same as relay-guard/acl`),
    })),
    ...['limit', 'rate_limit', 'rcpt_to.max_count', 'max_unrecognized_commands'].map((line) => ({
      what: line,
      lines: [...ours, line],
      files: {},
      warning: new RegExp(`^config/plugins: ${line} counts the same as relay-guard/limits`),
    })),
    {
      what: 'rcpt_to.in_host_list',
      lines: [...ours, 'rcpt_to.in_host_list'],
      files: {},
      warning: /^config\/plugins: what rcpt_to\.in_host_list accepts .*\(or host_list = true\)$/,
    },
    {
      what: 'rcpt_to.in_host_list with host_list = true',
      lines: [...ours, 'rcpt_to.in_host_list'],
      files: { 'domains.ini': `[main]\nhost_list = true\n${domain}` },
    },
    {
      what: 'a queue that takes every recipient',
      files: { 'domains.ini': `${domain}delivery = queue\nverify = none\n` },
      warning:
        /^domains\.ini \[[\w.]+\]: with delivery = queue and verify = none every recipient is accepted/,
    },
    {
      what: 'a queue that asks about each recipient',
      files: { 'domains.ini': `${domain}delivery = queue\n` },
    },
    {
      what: 'a queue plugin that asks its own host',
      lines: [...ours, 'queue/smtp_proxy'],
      files: {},
      warning:
        /^config\/plugins: queue\/smtp_proxy gets no mail, .* asks its own host at MAIL, RCPT and DATA/,
    },
    {
      what: 'a queue plugin that routes',
      lines: [...ours, 'queue/smtp_forward'],
      files: {},
      warning: /^config\/plugins: queue\/smtp_forward gets no mail, .* only routes what is relayed/,
    },
    {
      what: 'a queue plugin that gets nothing',
      lines: [...ours, 'queue/qmail-queue'],
      files: {},
      warning: /^config\/plugins: queue\/qmail-queue gets no mail, as no domain has delivery = plugin$/,
    },
  ]
  for (const { what, lines = ours, files, warning } of cases) {
    it(what, () => {
      plugins(...lines)
      put('host_list', '')
      for (const name of ['acl', 'auth', 'limits'])
        rmSync(join(dir, 'config', 'relay-guard', `${name}.ini`), { force: true })
      for (const [name, text] of Object.entries({ 'domains.ini': domain, ...files })) ini(name, text)
      harakaAt(dir)
      const configuration = readConfiguration(dir)
      assert.deepEqual(configuration.errors, [])
      const warnings = warningsOf(configuration)
      assert.equal(warnings.length, warning ? 1 : 0, warnings.join('\n'))
      if (warning) assert.match(warnings[0] ?? '', warning)
    })
  }
})

describe('what of the internet may relay', () => {
  const octets = (from: number, to: number) =>
    Array.from({ length: to - from }, (_, index) => `${from + index}.0.0.0/8`)
  const cases: [what: string, text: string, error?: RegExp][] = [
    ['nobody', '[relay]\n'],
    ['private networks', '[relay]\n10.0.0.0/8\n172.16.0.0/12\n192.168.0.0/16\nfc00::/7\nfe80::/10\n'],
    ['fifteen /8', `[relay]\n${octets(1, 16).join('\n')}\n`],
    [
      'sixteen /8',
      `[relay]\n${octets(1, 17).join('\n')}\n`,
      /^acl\.ini \[relay\]: 6 % of all IPv4 addresses may relay by all entries together/,
    ],
    [
      'a /4 that is carved to pieces',
      `[relay]\n16.0.0.0/4\n${octets(16, 31)
        .map((each) => `${each} = off`)
        .join('\n')}\n`,
    ],
    [
      'everybody but one',
      '[relay]\n0.0.0.0/0\n192.0.2.1 = off\n',
      /^acl\.ini \[relay\] 0\.0\.0\.0\/0: everybody may relay/,
    ],
    ['everybody, and never', '[relay]\n0.0.0.0/0\n[never]\n0.0.0.0/0\n'],
    ['half of IPv6', '[relay]\n::/1\n', /::\/1: everybody/],
    ['what a registry has of IPv6', '[relay]\n2a00::/12\n', /2a00::\/12: everybody/],
    ['the same from the middle, in two', '[relay]\n2a00::/13\n2a08::/13\n', /1 % of all IPv6 addresses/],
  ]
  for (const [what, text, error] of cases) {
    it(what, () => {
      ini('acl.ini', text)
      const { errors, acl, aclSections } = readConfiguration(dir)
      assert.deepEqual(errors, [])
      const found = openRelays(acl, aclSections)
      assert.equal(found.length, error ? 1 : 0, found.join('\n'))
      if (error) assert.match(found[0] ?? '', error)
    })
  }

  it('a list of 200,000 hosts, and everybody but those', () => {
    const hosts = Array.from(
      { length: 200_000 },
      (_, index) => `11.${index >> 16}.${(index >> 8) & 255}.${index & 255}`,
    )
    put('hosts.txt', `${hosts.join('\n')}\n`)
    const file = `[files]\nrelay[] = ${join(dir, 'config', 'hosts.txt')}\n`
    ini('acl.ini', file)
    const hostsOnly = readConfiguration(dir)
    assert.deepEqual(openRelays(hostsOnly.acl, hostsOnly.aclSections), [])
    ini('acl.ini', `[relay]\n0.0.0.0/0\n${file.replace('relay', 'never')}`)
    const others = readConfiguration(dir)
    assert.equal(openRelays(others.acl, others.aclSections).length, 1)
  })
})

describe('the last line of relay-guard check', () => {
  const nothing: Report = { mistakes: [], warnings: [], nextHops: [], smarthost: [] }
  const hop = (reached: boolean, ok: boolean) => ({
    domain: 'a.example',
    nextHop: 'smtp://mx1:25',
    reached,
    ok,
    said: '…',
  })
  const cases: [what: string, found: Partial<Report>, verdict: string][] = [
    ['nothing', {}, 'The ini files are good.'],
    ['a warning', { warnings: ['x'] }, 'The ini files are good.'],
    ['one error', { mistakes: ['x'] }, 'Not good: 1 error.'],
    ['two errors', { mistakes: ['x', 'y'], warnings: ['z'] }, 'Not good: 2 errors.'],
    ['a next hop that takes it', { nextHops: [hop(true, true)] }, 'The ini files are good.'],
    ['a next hop that refuses', { nextHops: [hop(true, false)] }, 'Not good: smtp://mx1:25.'],
    ['a dead one', { nextHops: [hop(false, false), hop(true, true)] }, 'Not good: smtp://mx1:25.'],
    ['a dead smarthost', { smarthost: [hop(false, false)] }, 'Not good: smtp://mx1:25.'],
    ['Redis', { redis: { ok: true, said: 'answers' } }, 'The ini files are good.'],
    [
      'Redis away, and an error',
      { mistakes: ['x'], redis: { ok: false, said: '…' } },
      'Not good: 1 error, Redis.',
    ],
  ]
  for (const [what, found, verdict] of cases) {
    it(what, () => {
      const report = { ...nothing, ...found }
      assert.equal(printReport(report).at(-1), verdict)
      assert.equal(isGood(report), verdict === 'The ini files are good.')
    })
  }
})
