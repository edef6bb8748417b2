import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parseHash, verify } from '../plugins/auth/passwords'
import { relayGuard } from './support/command'

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
