// Haraka's redis.ini says to us what it says to Haraka's own reader.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { test } from 'node:test'
import { parseHarakaIni } from '../core/redis/haraka-ini'
import { pick, randomFrom, seed } from './support/random'

interface Reader {
  parseIni(name: string, options: object, data: string): Record<string, Record<string, unknown>>
  logger(line: string): void
}
const reader = createRequire(require.resolve('Haraka/package.json'))(
  'haraka-config/lib/readers/ini.js',
) as Reader
reader.logger = () => {}

/** Numbers are text to us. */
const asNumbers = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map((each) => asNumbers(each === '' ? undefined : each) ?? '')
  if (typeof value !== 'string') return value
  if (/^-?\d+$/.test(value)) return Number.parseInt(value, 10)
  return /^-?\d+\.\d+$/.test(value) ? Number.parseFloat(value) : value
}
const plain = (sections: Record<string, Record<string, unknown>>): unknown =>
  Object.entries(sections).map(([name, section]) => [
    name,
    Object.entries(section).map(([key, value]) => [
      key,
      Array.isArray(value) ? value.map((each) => asNumbers(each ?? '')) : asNumbers(value),
    ]),
  ])

function assertSame(text: string): void {
  assert.deepEqual(
    plain(parseHarakaIni(text)),
    plain(reader.parseIni('redis.ini', {}, text)),
    JSON.stringify(text),
  )
}

test('what people write', () => {
  for (const text of [
    '[server]\nhost=a\n[opts]\ndb=3\n[server]\nport=1\n',
    '[server]\npassword=a ; b\npassword2 = a = b # c\n',
    '[server]\npassword = a\\\nb\n',
    '\ufeff[server]\nhost = a\n',
    'db = 5\n[server]\npassword\nport=1\nport=2\n',
    '[__proto__]\nhost=x\n[server]\n__proto__=y\nconstructor=z\n',
    '[server]\nhost[]=a\nhost[]=b\nhost=c\n',
    '[ server ]\r\nhost = 1.10\rport = 0123\n',
    '[server] ; comment\nhost=x\n[server\nport=1\nwhat is this\n[]\na=1\n',
  ])
    assertSame(text)
})

test('any text', () => {
  const random = randomFrom(seed)
  const pieces = [
    '[server]',
    '[opts]',
    '[ x ]',
    '[',
    ']',
    'host',
    'password',
    'port',
    '=',
    ' = ',
    ';',
    ' ;',
    '#',
    '\\',
    '\n',
    '\r\n',
    ' ',
    '\t',
    '0123',
    '1.50',
    '-7',
    '[]',
    '%1',
    '@',
    '__proto__',
    'constructor',
    '"',
    "'",
    '\u00a0',
    'ü',
  ]
  for (let i = 0; i < 20_000; i++) {
    let text = ''
    for (let n = Math.floor(random() * 25); n > 0; n--) text += pick(pieces, random)
    assertSame(text)
  }
})

test('a password that looks like a number stays as it was written', () => {
  assert.equal(parseHarakaIni('[server]\npassword = 0123\n')['server']?.['password'], '0123')
})
