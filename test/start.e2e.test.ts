// Starts that Haraka must refuse, each with lines that name what is wrong and no stack.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { startHarakaExpectingFailure } from './support/haraka'

const noStack = /^\s+at |TypeError/m

describe('Haraka does not start', { concurrency: 2 }, () => {
  test('with errors in domains.ini and in the file of a later line: those of both are told', async () => {
    const { output } = await startHarakaExpectingFailure({
      plugins: ['relay-guard/domains', 'relay-guard/limits'],
      files: { 'relay-guard/domains.ini': '[x\n', 'relay-guard/limits.ini': '[nope]\nlimit = 1\n' },
    })
    assert.match(output, /domains\.ini line 1/)
    assert.match(output, /limits\.ini \[nope\]/)
    assert.match(output, /has errors \(2\), listed above; Haraka does not start/)
    assert.doesNotMatch(output, noStack)
  })

  for (const [what, plugins, line] of [
    [
      'with a line of ours twice',
      ['relay-guard/acl', 'haraka-plugin-relay-guard/acl'],
      /relay-guard\/acl is there twice/,
    ],
    [
      'with a slash too many',
      ['relay-guard/acl/'],
      /relay-guard\/acl\/ is no line of ours; write relay-guard\/acl/,
    ],
    [
      'with a roundabout path',
      ['relay-guard/./acl'],
      /relay-guard\/\.\/acl is no line of ours; write relay-guard\/acl/,
    ],
  ] as const)
    test(what, async () => {
      const { output } = await startHarakaExpectingFailure({ plugins: [...plugins] })
      assert.match(output, line)
      assert.doesNotMatch(output, noStack)
    })

  test('with a connection.ini in which Haraka itself finds no [uuid]', async () => {
    const { output } = await startHarakaExpectingFailure({
      plugins: ['relay-guard/acl'],
      files: { 'connection.ini': '[haproxy]\nhosts[] = 192.0.2.1\n' },
    })
    assert.match(output, /config\/connection\.ini: there is no section \[uuid\]/)
    assert.doesNotMatch(output, noStack)
  })
})
