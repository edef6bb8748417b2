// Passwords stand in some of our files: whatever mistake is made beside them, no error may repeat one.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { printConfigError } from '../core/ini/parse'
import type { Reading } from '../core/ini/reading'
import { readRedis } from '../core/redis/config'
import { readAuth } from '../plugins/auth/config'
import { readDomains } from '../plugins/domains/config'
import { startHarakaExpectingFailure } from './support/haraka'
import { fc } from './support/random'
import { readText } from './support/reading'

/** Its pieces occur in no message. */
const SECRET = 'Rq7Xw9Zk2Jv'
const PIECES = Array.from({ length: SECRET.length - 3 }, (_, i) => SECRET.slice(i, i + 4).toLowerCase())

const HASH = `$scrypt$ln=15,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$${SECRET}${'A'.repeat(43 - SECRET.length)}`
const OTHER = join('.', 'config', 'redis.ini')
const world = { ownListener: () => false, hostName: 'mx.example' }

type Read = (text: string) => string[]
const asDomains: Read = (text) => readText('domains.ini', text, (r: Reading) => readDomains(r, world)).errors
const asAuth: Read = (text) => readText('auth.ini', text, readAuth).errors
const asRedis: Read = (text) => readText('redis.ini', text, readRedis).errors
const asHarakaRedis: Read = (text) =>
  readText('redis.ini', '[redis]\n', readRedis, { [OTHER]: text, 'config/redis.ini': text }).errors

function isSilent(errors: string[], text: string): void {
  const shown = errors.join('\n').toLowerCase()
  for (const piece of PIECES) assert.ok(!shown.includes(piece), `${text}\n=>\n${shown}`)
}

describe('an error', () => {
  const mistakes: [string, Read, string[]][] = [
    [
      'domains.ini',
      asDomains,
      [
        `[a.example]\nnext_hop = smtp://me:sec,${SECRET}@h:587`,
        `[a.example]\nnext_hop = smtp://me:${SECRET},x@h:587`,
        `[a.example]\nnext_hop = me:${SECRET}@h`,
        `[a.example]\nnext_hop = ${SECRET}@h`,
        `[a.example]\nnext_hop = smtp:/me:${SECRET}@h`,
        `[a.example]\nnext_hop = ${SECRET}://h`,
        `[a.example]\nnext_hop = smtp://h:${SECRET}`,
        `[a.example]\nnext_hop = lmtp:unix:me:${SECRET}@/run/x`,
        `[a.example]\nnext_hop = smtp://me:%${SECRET}@h`,
        `[a.example]\nnext_hop = smtp://me:${SECRET}@h\nnext_hop = smtp://me:${SECRET}@h`,
        `[a.example]\nnext_hop smtp://me:${SECRET}@h`,
        `[a.example]\nnext_hopsmtp://me:${SECRET}@h`,
        `[a.example]\nnext_hop: smtp://me:${SECRET}@h`,
        `[a.example]\ntls = smtp://me:${SECRET}@h`,
        `[a.example]\ntls = ${SECRET}`,
        `[a.example]\ntimeout = ${SECRET}`,
        `[a.example]\nrecipients[] = ${SECRET}@b.example`,
        `[a.example]\nrecipients[] = ${SECRET}`,
        `[a.example]\nrecipients[] = x@${SECRET}`,
        `[main]\nsmart host = smtp://me:${SECRET}@h`,
        `[main]\nsmarthost smtp://me:${SECRET}@h`,
        `[main]\nsmarthost = smtp//me:${SECRET}@h`,
        `[main]\nspoof_allowed = ${SECRET}`,
        `[main]\npostmaster = ${SECRET}@b.example`,
        `[main]\nquestions = ${SECRET}`,
        `[main]\nanti_spoof = ${SECRET}`,
        `[main]\nredis = ${SECRET}`,
        `[main]\ntls_ca = me:${SECRET}@h`,
        `[main]\nsmarthost_tls = ${SECRET}`,
        `[a.example]\nconnections = ${SECRET}`,
        `[a.example]\ntimeout_final = ${SECRET}`,
        `[main]\n${SECRET}`,
        `[main]\n${SECRET} = x`,
        `[main]\nme:${SECRET}@h = smarthost`,
        `[main]\nsmarthost${SECRET.slice(0, 4)} = x`,
        `[${SECRET}]`,
        `[${SECRET}`,
        `[me:${SECRET}@h.example]\nx = 1`,
        `[smtp://me:${SECRET}@h.example]\nnext_hop = mx\n[smtp://me:${SECRET}@h.example]`,
      ],
    ],
    [
      'auth.ini',
      asAuth,
      [
        `[users]\nalice = ${SECRET}`,
        `[users]\nalice = ${HASH}x$`,
        `[users]\nalice = ${HASH.replace('ln=15', 'ln=99')}`,
        `[users]\nalice = ${HASH}\nALICE = ${HASH}`,
        `[users]\nalice = ${HASH}\nalice = ${HASH}`,
        `[users]\nalice ${HASH}`,
        `[users]\nalice: ${HASH}`,
        `[users]\n${HASH}`,
        `[users]\n${HASH} = alice`,
        `[users]\n${SECRET} = alice`,
        `[users]\n@${SECRET} = ${HASH}`,
        `[main]\nalice = ${HASH}`,
        `[main]\nsender = ${SECRET}`,
        `[main]\nrealm = ${HASH}`,
        `[main]\nplaintext_allowed = ${SECRET}`,
        `[main]\nrequire_tls = ${SECRET}`,
        `[senders]\nalice = ${HASH}`,
        `[senders]\n${HASH} = alice`,
        `[senders]\n${SECRET}`,
        `[senders]\n${SECRET}[] = x@y.example\n${SECRET} = x@y.example`,
        `[${SECRET}]\nalice = x`,
      ],
    ],
    [
      'redis.ini',
      asRedis,
      [
        `[redis]\npassword ${SECRET}`,
        `[redis]\npassword${SECRET}`,
        `[redis]\npasswort = ${SECRET}`,
        `[redis]\nsentinel_password${SECRET} = x`,
        `[redis]\n${SECRET}`,
        `[redis]\npassword = ${SECRET}\npassword = ${SECRET}`,
        `[redis]\npassword[] = ${SECRET}\npassword = ${SECRET}`,
        `[redis]\nurl = redis:/me:${SECRET}@h`,
        `[redis]\nurl = //me:${SECRET}@h`,
        `[redis]\nurl = redis://me:${SECRET}@h:x`,
        `[redis]\nurl = redis://me:${SECRET}@h/x`,
        `[redis]\nurl = redis://me:%${SECRET}@h`,
        `[redis]\nport = ${SECRET}`,
        `[redis]\ndatabase = ${SECRET}`,
        `[redis]\ncluster = me:${SECRET}@h:1`,
        `[redis]\nsentinel = ${SECRET}:x`,
        `[redis]\nprefix = ${SECRET} x`,
        `[redis]\nprefix = ${SECRET}{`,
        `[redis]\ntimeout = ${SECRET}`,
        `[redis]\nenabled = ${SECRET}`,
        `[log]\nlength = ${SECRET}`,
        `[log]\npassword = ${SECRET}`,
        `[${SECRET}]\nx = 1`,
      ],
    ],
    [
      "Haraka's redis.ini",
      asHarakaRedis,
      [
        `[server]\nurl = redis://me:${SECRET}@h:x`,
        `[server]\nport = ${SECRET}`,
        `[opts]\ndatabase = ${SECRET}`,
        `[server]\nurl = redis://me:%${SECRET}@h`,
      ],
    ],
  ]
  for (const [file, read, texts] of mistakes)
    for (const text of texts)
      it(`of ${file} shows no secret: ${JSON.stringify(text.replaceAll(SECRET, 'SECRET').slice(0, 80))}`, () => {
        const errors = read(`${text}\n`)
        assert.notDeepEqual(errors, [])
        isSilent(errors, text)
      })

  it('names the line where it shows no key', () => {
    assert.deepEqual(asAuth(`[main]\n[users]\n; x\nalice = ${SECRET}\n`), [
      'auth.ini [users] line 4: is not a line of `relay-guard passwd NAME`',
    ])
    assert.deepEqual(asRedis(`[redis]\npassword ${SECRET}\n`), [
      'redis.ini [redis] line 2: cannot be read; a line is [SECTION], KEY = VALUE or a comment',
    ])
    assert.deepEqual(asDomains(`\n[${SECRET}]\nnext_hop = x\n`), [
      'domains.ini [line 2] next_hop: not a next hop; allowed are smtp://HOST[:PORT], smtps://HOST[:PORT], lmtp://HOST[:PORT] and lmtp:unix:/PATH',
    ])
  })

  it('takes a login out of what is shown of any other file', () => {
    const error = {
      file: 'limits.ini',
      section: 'main',
      key: '',
      text: `"smtp://me:${SECRET}@h:25" is wrong`,
    }
    assert.equal(printConfigError(error), 'limits.ini [main]: "…@h:25" is wrong')
  })

  const files: [string, Read, string][] = [
    [
      'domains.ini',
      asDomains,
      `[main]\nsmarthost = smtps://me:${SECRET}!@smart.example:465\nbounce = drop\n[a.example]\nnext_hop = smtp://me:${SECRET}!@mx.a.example\n`,
    ],
    ['auth.ini', asAuth, `[main]\nsender = any\n[senders]\nbob = @a.example\n[users]\nalice = ${HASH}\n`],
    [
      'redis.ini',
      asRedis,
      `[redis]\npassword = ${SECRET}!\nsentinel_name = x\n[log]\nlength = 500\n[redis2]\nurl = redis://me:${SECRET}!@h\n`,
    ],
    [
      "Haraka's redis.ini",
      asHarakaRedis,
      `[server]\npassword = ${SECRET}!\nurl = redis://me:${SECRET}!@h:1\n`,
    ],
  ]
  /** What fingers, editors and half a merge do to a file. */
  const damage = fc.oneof(
    fc.record({ at: fc.nat(), cut: fc.integer({ min: 1, max: 12 }) }),
    fc.record({
      at: fc.nat(),
      put: fc.constantFrom(
        '\n',
        ' ',
        '=',
        ' = ',
        ',',
        ':',
        '/',
        '@',
        '[',
        ']',
        '[]',
        '"',
        '%',
        '#',
        ' ;',
        '$',
      ),
    }),
    fc.record({ at: fc.nat(), upTo: fc.nat({ max: 60 }) }),
  )
  for (const [file, read, text] of files)
    it(`of ${file}, damaged anyhow, shows no secret`, () => {
      fc.assert(
        fc.property(fc.array(damage, { minLength: 1, maxLength: 4 }), (damages) => {
          let damaged = text
          for (const each of damages) {
            const at = each.at % damaged.length
            const [before, behind] = [damaged.slice(0, at), damaged.slice(at)]
            if ('cut' in each) damaged = before + behind.slice(each.cut)
            else if ('put' in each) damaged = before + each.put + behind
            else damaged = before + behind.slice(0, each.upTo) + behind
          }
          isSilent(read(damaged), damaged)
        }),
        { numRuns: 3000, seed: 1 },
      )
    })
})

describe('with passwords in damaged files', () => {
  const dir = mkdtempSync(join(tmpdir(), 'relay-guard-secrets-'))
  after(() => rmSync(dir, { recursive: true, force: true }))
  const damaged: Record<string, string> = {
    plugins: 'relay-guard/acl\nrelay-guard/limits\nrelay-guard/auth\nrelay-guard/domains\n',
    'redis.ini': `[server]\nurl = redis://me:${SECRET}@h:x\n`,
    'relay-guard/domains.ini': `[main]\nsmart host = smtp://me:${SECRET}@h\n[a.example]\nnext_hop = me:${SECRET}@h\n[${SECRET}]\n`,
    'relay-guard/auth.ini': `[users]\nalice = ${SECRET}\n${SECRET} = x\n`,
    'relay-guard/redis.ini': `[redis]\npassword ${SECRET}\n`,
  }
  const lines = [
    /domains\.ini \[main\] line 2: cannot be read/,
    /domains\.ini \[a\.example\] next_hop: not a next hop/,
    /domains\.ini \[line 5\]/,
    /auth\.ini \[users\] line 2: /,
    /auth\.ini \[users\] line 3: /,
    /redis\.ini \[redis\] line 2: cannot be read/,
    /redis\.ini \[redis\]: cannot tell where Redis is, by what is said in config\/redis\.ini/,
  ]

  for (const options of [[], ['--json']])
    it(`relay-guard check ${options.join(' ')} shows none`, async () => {
      for (const [file, text] of Object.entries(damaged)) {
        mkdirSync(join(dir, 'config', 'relay-guard'), { recursive: true })
        writeFileSync(join(dir, 'config', file), text)
      }
      const command = join(__dirname, '..', 'cli', 'index.js')
      const said = await new Promise<string>((resolve) =>
        execFile(process.execPath, [command, '-c', dir, ...options, 'check'], (_error, out, err) =>
          resolve(out + err),
        ),
      )
      for (const line of lines) assert.match(said, line)
      isSilent([said], 'check')
    })

  it('Haraka logs none', async () => {
    const { plugins: _, ...files } = damaged
    const { output } = await startHarakaExpectingFailure({
      plugins: ['relay-guard/acl', 'relay-guard/limits', 'relay-guard/auth', 'relay-guard/domains'],
      files,
    })
    for (const line of lines) assert.match(output, line)
    isSilent([output], 'log')
  })
})
