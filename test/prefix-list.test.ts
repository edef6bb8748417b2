import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseIni } from '../core/ini/parse'
import { parseEntry } from '../core/net/range'
import { entries, type OnEntry } from '../core/net/range-file'
import { runAtOnce, runInTimeSlices } from '../core/time-slices'
import { readDomains } from '../plugins/domains/config'
import { longestTurn } from './support/longest-turn'
import { fc } from './support/random'
import { readText } from './support/reading'

const world = { ownListener: () => false, hostName: 'mx.example' }

const readEntries = (text: Buffer | string, onEntry: OnEntry) => runAtOnce(entries(text, onEntry))

function read(text: Buffer | string) {
  const seen: [number, string][] = []
  const errors = readEntries(text, (line, entry) => seen.push([line, entry]))
  return { seen, errors }
}

test('entries come with their line numbers, without comments and blank lines, from Windows files too', () => {
  const text =
    '\ufeff198.51.100.1 # drop list\r\n192.0.2.0/24 ; SBL1\r\n\r\n ; more\r\n\t2001:db8::/32# two\n10.0.0.1'
  const seen = [
    [1, '198.51.100.1'],
    [2, '192.0.2.0/24'],
    [5, '2001:db8::/32'],
    [6, '10.0.0.1'],
  ]
  assert.deepEqual(read(text), { seen, errors: [] })
  assert.deepEqual(read(Buffer.from(text)), { seen, errors: [] })
})

test('lines end alike in list files, ini files and host_list: a list with CR alone was one comment', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.tuple(
          fc.constantFrom('# x', '', 'a.example', '192.0.2.1 ; y'),
          fc.constantFrom('\n', '\r\n', '\r'),
        ),
      ),
      (lines) => {
        // An empty line between CR and LF would join them.
        const safe = lines.filter(
          ([line, end], at) => !(line === '' && end === '\n' && lines[at - 1]?.[1] === '\r'),
        )
        const text = safe.flat().join('')
        const expected = safe.flatMap(([line], at) =>
          /^[a1]/.test(line) ? [[at + 1, line.split(' ')[0]]] : [],
        )
        assert.deepEqual(read(text).seen, expected)
        assert.deepEqual(
          parseIni('acl.ini', `[relay]\n${text}`, []).flatMap(({ entries: all }) =>
            all.map(({ line }) => line - 1),
          ),
          expected.map(([line]) => line),
        )
        const { value } = readText(
          'domains.ini',
          '[main]\nhost_list = true\n',
          (r) => readDomains(r, world),
          {
            'config/host_list': text.replaceAll('192.0.2.1', 'b.example'),
          },
        )
        assert.deepEqual(
          value.domains.all().map(({ name }) => name),
          [...new Set(expected.map(([, entry]) => (entry === '192.0.2.1' ? 'b.example' : entry)))],
        )
      },
    ),
  )
  assert.deepEqual(read('# my list\r10.0.0.0/8\r').seen, [[2, '10.0.0.0/8']])
  assert.deepEqual(read('10.0.0.0/8 # a\r192.0.2.0/24\r\n').seen, [
    [1, '10.0.0.0/8'],
    [2, '192.0.2.0/24'],
  ])
})

test('an empty text has no entries', () => {
  assert.deepEqual(read(''), { seen: [], errors: [] })
  assert.deepEqual(read('\n\n'), { seen: [], errors: [] })
})

test('errors are collected with their line numbers, and the rest is read on', () => {
  const seen: string[] = []
  const errors = readEntries('10.0.0.1\n# fine\n10.0.0.0/33\n10.0.0.2\n', (_, entry) => {
    parseEntry(entry)
    seen.push(entry)
  })
  assert.deepEqual(errors, ['line 3: 10.0.0.0/33: prefix longer than 32, allowed is /0 to /32'])
  assert.deepEqual(seen, ['10.0.0.1', '10.0.0.2'])
})

test('twenty errors are shown and the others counted', () => {
  const fail = () => {
    throw new Error('no')
  }
  assert.equal(readEntries('x\n'.repeat(20), fail).length, 20)
  const errors = readEntries('x\n'.repeat(23), fail)
  assert.deepEqual(errors.slice(19), ['line 20: no', 'and 3 more'])
})

test('a million lines are read while the event loop goes on, the same as at once', async () => {
  const text = Buffer.from(
    Array.from({ length: 1_000_000 }, (_, at) => `10.${at >> 16}.${(at >> 8) & 255}.${at & 255}\n`).join(''),
  )
  let sum = 0
  let errors = ['not read']
  const longest = await longestTurn(async () => {
    const task = entries(text, (line, entry) => {
      sum += line + parseEntry(entry).first[0]!
    })
    errors = await runInTimeSlices(task)
  })
  readEntries(text, (line, entry) => {
    sum -= line + parseEntry(entry).first[0]!
  })
  assert.deepEqual([errors, sum], [[], 0])
  assert.ok(longest < 300, `the event loop stood still for ${longest} ms`)
})
