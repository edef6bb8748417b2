// Which Haraka starts with our lines. `npm run test:matrix` runs this with others than the one that is installed here.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { startHaraka, startHarakaExpectingFailure } from './support/haraka'
import { harakaHome } from './support/install'
import { SmtpClient } from './support/smtp-client'

const { version } = JSON.parse(readFileSync(join(harakaHome, 'package.json'), 'utf8')) as { version: string }
const [major = 0, minor = 0] = version.split('.').map(Number)
const isSupported = major > 3 || (major === 3 && minor >= 2)
const lines = ['acl', 'auth', 'domains', 'limits'].map((name) => `relay-guard/${name}`)

describe(`Haraka ${version}`, () => {
  if (isSupported) {
    it('starts with our lines, and refuses to relay', async () => {
      const haraka = await startHaraka({ plugins: lines })
      try {
        const client = await SmtpClient.connect({ port: haraka.port })
        await client.command('EHLO client.example')
        await client.command('MAIL FROM:<a@b.example>')
        const { code, lines: text } = await client.command('RCPT TO:<v@victim.example>')
        assert.equal(code, 550)
        assert.match(text.join(), /5\.7\.1 .*\(id [0-9A-F]{8}\.1\)/)
        await client.quit()
        assert.deepEqual(haraka.failures(), [])
        assert.doesNotMatch(haraka.output(), /newer than|does not fit/)
      } finally {
        await haraka.stop()
      }
    })
    return
  }
  const refusal = `relay-guard needs Haraka 3.2.0 or later; this is ${version}`
  for (const plugin of lines)
    for (const nodes of [0, 1])
      it(`is refused with one sentence by ${plugin} alone, nodes=${nodes}`, async () => {
        const { code, output } = await startHarakaExpectingFailure({ plugins: [plugin], nodes })
        assert.notEqual(code, 0)
        assert.deepEqual(
          output
            .split('\n')
            .filter((line) => /\[CRIT\]|^\s+at |Error/.test(line))
            .map((line) => line.replace(/^.*\[core\] /, '')),
          [refusal],
        )
      })
})
