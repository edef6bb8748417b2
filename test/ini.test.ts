import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { nearest } from '../core/ini/nearest'
import { type ConfigError, parseIni, printConfigError } from '../core/ini/parse'
import { fc } from './support/random'

function parsed(text: string) {
  const errors: ConfigError[] = []
  const sections = parseIni('x.ini', text, errors)
  return { sections, errors: errors.map(printConfigError) }
}

/** Sections as plain lists of [key, value], for a file without errors. */
function good(text: string): Record<string, [string, string | undefined][]> {
  const { sections, errors } = parsed(text)
  assert.deepEqual(errors, [])
  return Object.fromEntries(
    sections.map(({ name, entries }) => [name, entries.map(({ key, value }) => [key, value])]),
  )
}

describe('an ini file', () => {
  it('is sections of keys and values, and lines before the first section are [main]', () => {
    assert.deepEqual(good('a = 1\n[b]\nc=2\nd\n'), {
      main: [['a', '1']],
      b: [
        ['c', '2'],
        ['d', undefined],
      ],
    })
  })

  it('takes comments at the start of a line, and " ;" behind a section, a value, no value and a bare key', () => {
    const text = [
      '; one',
      '  # two',
      '[s]   ; three',
      'a = 1   ; four',
      'b =     ; five',
      'c\t; six',
      'd = x;y # z',
    ]
    assert.deepEqual(good(text.join('\n')), {
      s: [
        ['a', '1'],
        ['b', ''],
        ['c', undefined],
        ['d', 'x;y # z'],
      ],
    })
  })

  it('has the same meaning with a byte order mark, CRLF and no line end', () => {
    assert.deepEqual(good('\ufeff[s]\r\na = 1\r\nb = 2'), {
      s: [
        ['a', '1'],
        ['b', '2'],
      ],
    })
  })

  it('divides a line at " = ", so that a key may hold "="', () => {
    assert.deepEqual(good('[s]\nbounce+v=a.example@b.example = 5\nk=a = b=c\nu = $s$ln=1,r=2$\nv=$s$ln=1'), {
      s: [
        ['bounce+v=a.example@b.example', '5'],
        ['k=a', 'b=c'],
        ['u', '$s$ln=1,r=2$'],
        ['v', '$s$ln=1'],
      ],
    })
  })

  it('keeps a key as it is written, also 0123, __proto__ and constructor', () => {
    const { sections } = parsed('[__proto__]\n__proto__ = 0123\nconstructor = true\n')
    assert.equal(sections[0]?.name, '__proto__')
    assert.deepEqual(
      sections[0]?.entries.map(({ key, value }) => [key, value]),
      [
        ['__proto__', '0123'],
        ['constructor', 'true'],
      ],
    )
  })

  it('says of a key[] that it may come again', () => {
    const { sections } = parsed('[s]\na[] = 1\na [] = 2\nb = 3\n')
    assert.deepEqual(sections[0]?.entries, [
      { key: 'a', line: 2, value: '1', repeatable: true },
      { key: 'a', line: 3, value: '2', repeatable: true },
      { key: 'b', line: 4, value: '3', repeatable: false },
    ])
  })

  const bad: [string, string][] = [
    ['', 'x.ini: is empty; to go back to the defaults, remove the file and restart Haraka'],
    [' \n\t\r\n', 'x.ini: is empty; to go back to the defaults, remove the file and restart Haraka'],
    ['[main]\n\0\n', 'x.ini: is not a text file in UTF-8'],
    ['[main]\na = \ufffd\n', 'x.ini: is not a text file in UTF-8'],
    ['[main]\na b = 1\n', 'x.ini [main] line 2: cannot be read: a b = 1'],
    ['[main]\n= 1\n', 'x.ini [main] line 2: cannot be read: = 1'],
    ['[main]\n[] = 1\n', 'x.ini [main] line 2: cannot be read: [] = 1'],
    ['[main]\na[]\n', 'x.ini [main] line 2: cannot be read: a[]'],
    ['[main\n', 'x.ini line 1: cannot be read: [main'],
    ['[a]\n[]\n', 'x.ini [a] line 2: cannot be read: []'],
    ['[a]\n[b] c\n', 'x.ini [a] line 2: cannot be read: [b] c'],
    ['[a]\nb = 1\n[c]\n[a]\nd = 2\n', 'x.ini [a]: the section is there twice; put its lines together'],
    ['a = 1\n[main]\nb = 2\n', 'x.ini [main]: the section is there twice; put its lines together'],
  ]
  for (const [text, error] of bad) {
    it(`that reads ${JSON.stringify(text)} has one error, told in one line`, () => {
      assert.deepEqual(parsed(text).errors, [error])
    })
  }

  it('with an error cannot write into the log what it likes', () => {
    const [error = ''] = parsed(`[main]\na \u001b[2J\r${'x'.repeat(70_000)} = 1\n`).errors
    assert.match(error, /^x\.ini \[main\] line 2: cannot be read: a/)
    assert.doesNotMatch(error, /[\x00-\x1f]/)
    assert.ok(error.length < 600, `${error.length} characters`)
  })

  it('never makes the reader throw, whatever stands in it', () => {
    const piece = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.constantFrom('[', ']', '=', ' = ', '[]', ';', '\n', '\r\n', '__proto__', '\ud800', '\ufeff', '\t'),
    )
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
        const { sections, errors } = parsed(pieces.join(''))
        for (const { name, entries } of sections) {
          assert.notEqual(name, '')
          for (const { key } of entries) assert.match(key, /^\S+$/)
        }
        for (const error of errors) assert.doesNotMatch(error, /\n/)
      }),
      { numRuns: 2000 },
    )
  })

  it('is read in time that grows no faster than the longest line: this one took a square of it', () => {
    // 64 KB by 64 KB steps would not end within any patience of a test runner.
    const spaces = ' '.repeat(2 ** 20)
    assert.deepEqual(parsed(`[s]\na${spaces}b\n`).errors.length, 1)
    assert.deepEqual(parsed(`[s]\na =${spaces};${spaces}x\n`).errors, [])
  })
})

describe('the nearest name', () => {
  it('is found for a slip of the finger, and none for something else', () => {
    assert.equal(nearest('anti_spof', ['anti_spoof', 'bounce']), 'anti_spoof')
    assert.equal(nearest('ANTI_SPOOF', ['anti_spoof']), 'anti_spoof')
    assert.equal(nearest('xyzzy', ['anti_spoof', 'bounce']), undefined)
    assert.equal(nearest('x'.repeat(65_536), ['anti_spoof']), undefined)
  })
})
