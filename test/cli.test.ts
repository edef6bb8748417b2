import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { readArguments } from '../cli/arguments'
import { inShell, relayGuard } from './support/command'

const VERBS = {
  install: { words: [], does: '' },
  check: { words: [], does: '' },
  passwd: { words: ['NAME'], does: '' },
  help: { words: [], does: '' },
  version: { words: [], does: '' },
}
const known = 'known are install, check, passwd, help, version'

describe('the arguments of relay-guard', () => {
  const read = (line: string) => readArguments(line.split(' ').filter(Boolean), VERBS)
  const good: [line: string, verb: string, dir?: string, json?: boolean, words?: string[]][] = [
    ['', ''],
    ['check', 'check'],
    ['-c /etc/haraka check --json', 'check', '/etc/haraka', true],
    ['check --config=/etc/haraka', 'check', '/etc/haraka'],
    ['passwd alice', 'passwd', '.', false, ['alice']],
    ['passwd -- -x', 'passwd', '.', false, ['-x']],
    ['help', 'help'],
    ['-h', 'help'],
    ['check --help', 'help'],
    ['help me please'.split(' ')[0]!, 'help'],
    ['version', 'version'],
    ['--version', 'version'],
    ['-v', 'version'],
  ]
  for (const [line, verb, dir = '.', json = false, words = []] of good) {
    it(`reads "${line}"`, () => assert.deepEqual(read(line), { verb, dir, json, words }))
  }
  const bad: [line: string, error: string][] = [
    ['chek', 'there is no "chek"; did you mean check?'],
    ['CHECK', 'there is no "CHECK"; did you mean check?'],
    ['instal', 'there is no "instal"; did you mean install?'],
    ['--json password alice', 'there is no "password"; did you mean passwd?'],
    ['__proto__', `there is no "__proto__"; ${known}`],
    ['constructor', `there is no "constructor"; ${known}`],
    ['check now', '"now" is a word too many: check'],
    ['check check', '"check" is a word too many: check'],
    ['passwd', 'passwd needs a NAME: passwd NAME'],
    ['passwd alice bob', '"bob" is a word too many: passwd NAME'],
    ['check --jsn', 'there is no option --jsn; did you mean --json?'],
    ['check --bogus', 'there is no option --bogus; known are -c DIR and --json'],
    ['check -x', 'there is no option -x; known are -c DIR and --json'],
    ['check --no-json', 'there is no option --no-json; known are -c DIR and --json'],
    ['check -c', '-c needs a directory: -c DIR'],
    ['check --config', '--config needs a directory: --config DIR'],
    ['check --config=', '--config needs a directory: --config DIR'],
    ['check --json=yes', '--json takes no value, but has "yes"'],
  ]
  for (const [line, message] of bad) {
    it(`refuses "${line}" by the word that is wrong`, () => assert.throws(() => read(line), { message }))
  }
})

describe('relay-guard', () => {
  it('without a verb says how it is used, and could not run', async () => {
    const { status, out, err } = await relayGuard([])
    assert.deepEqual([status, out], [2, ''])
    assert.match(err, /^usage: relay-guard/)
  })

  it('asked for help or its version is fine', async () => {
    for (const word of ['--help', '-h', 'help']) {
      const { status, out, err } = await relayGuard([word])
      assert.deepEqual([status, err], [0, ''])
      assert.match(out, /^usage: relay-guard .*passwd NAME/s)
    }
    for (const word of ['--version', 'version']) {
      const { status, out } = await relayGuard([word])
      assert.equal(status, 0)
      assert.match(out, /^\d+\.\d+\.\d+\n$/)
    }
  })

  it('could not run with a word or an option that it does not have, or in a directory that is not Haraka’s', async () => {
    assert.deepEqual(await relayGuard(['chek']), {
      status: 2,
      out: '',
      err: 'relay-guard: there is no "chek"; did you mean check?\n',
    })
    const unknown = await relayGuard(['check', '--bogus'])
    assert.equal(unknown.status, 2)
    assert.match(unknown.err, /^relay-guard: .*--bogus/)
    for (const verb of ['check', 'install']) {
      const { status, out, err } = await relayGuard(['-c', '/nowhere', verb])
      assert.deepEqual([status, out], [2, ''])
      assert.equal(
        err,
        "relay-guard: /nowhere is not Haraka's directory (there is no config/plugins); name it with -c DIR\n",
      )
    }
  })

  it('with --json says in JSON why it could not run', async () => {
    for (const args of [[], ['chek'], ['check', '--bogus'], ['-c', '/nowhere', 'check'], ['passwd']]) {
      const json = args.length > 0 ? '--json' : '--json=true'
      const { status, out, err } = await relayGuard([json, ...args])
      assert.deepEqual([status, err], [2, ''])
      const { error, ...rest } = JSON.parse(out) as { error: string }
      assert.deepEqual(rest, {})
      assert.match(error, /\w/)
    }
  })

  it('whose answer cannot be written says so in one line', async () => {
    for (const args of ['help', '--json help', '--json', 'chek --json'])
      assert.deepEqual(await inShell(`relay-guard ${args} > /dev/full`, '/'), {
        status: 2,
        out: '',
        err: 'relay-guard: the answer cannot be written: ENOSPC: no space left on device, write\n',
      })
  })
})
