// overload.ini: what it takes, and what it says of everything else.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { KINDS, LINES, readOverload } from '../plugins/overload/config'
import { root } from './support/install'
import { fc } from './support/random'
import { readText } from './support/reading'

const read = (text: string) => readText('overload.ini', text, readOverload)
const only = (key: string, value: string) => {
  const { section } = Object.values(LINES).find((line) => line.key === key)!
  return read(`[${section}]\n${key} = ${value}\n`)
}

describe('overload.ini', () => {
  it('says in the file of the package what holds without one', () => {
    const shipped = read(readFileSync(join(root, 'config/relay-guard/overload.ini'), 'utf8'))
    assert.deepEqual(shipped, read('; nothing\n'))
    assert.deepEqual(shipped.errors, [])
    assert.deepEqual(
      KINDS.map((kind) => [kind, shipped.value[kind]?.limit, shipped.value[kind]?.isPercent]),
      [
        ['disk', 2 ** 30, false],
        ['inodes', 5, true],
        ['queue', 20_000, false],
        ['connections', 1000, false],
        ['delay', 200, false],
        ['memory', 2 ** 30, false],
      ],
    )
  })

  for (const [key, value, limit, isPercent = false] of [
    ['min_free', '500M', 500 * 2 ** 20],
    ['min_free', '10k', 10_240],
    ['min_free', '2G', 2 * 2 ** 30],
    ['min_free', '1048576', 1_048_576],
    ['min_free', '5%', 5, true],
    ['min_free', '0.5%', 0.5, true],
    ['min_free_inodes', '2000', 2000],
    ['min_free_inodes', '12%', 12, true],
    ['max_files', '5', 5],
    ['max_connections', '1', 1],
    ['max_delay', '1s', 1000],
    ['max_memory', '700M', 700 * 2 ** 20],
  ] as const) {
    it(`takes ${key} = ${value}`, () => {
      const { value: config, errors } = only(key, value)
      assert.deepEqual(errors, [])
      const kind = KINDS.find((each) => LINES[each].key === key)!
      assert.deepEqual(config[kind], { limit, isPercent, text: value })
    })
  }

  for (const kind of KINDS)
    it(`takes off for ${LINES[kind].key}, and none of the others goes with it`, () => {
      const { value, errors } = only(LINES[kind].key, 'off')
      assert.deepEqual(errors, [])
      assert.deepEqual(
        Object.keys(value),
        KINDS.filter((each) => each !== kind),
      )
    })

  for (const [text, error] of [
    [
      '[disk]\nmin_free = lots\n',
      '[disk] min_free: "lots" is not allowed here; write a size (500M, 2G), a part of the file system (5%) or off',
    ],
    [
      '[disk]\nmin_free = 1T\n',
      '[disk] min_free: "1T" is not allowed here; write a size (500M, 2G), a part of the file system (5%) or off',
    ],
    [
      '[disk]\nmin_free = 100%\n',
      '[disk] min_free: "100%" is not allowed here; write a size (500M, 2G), a part of the file system (5%) or off',
    ],
    [
      '[disk]\nmin_free = 0\n',
      '[disk] min_free: "0" has no meaning; write off, or a size (500M, 2G), a part of the file system (5%) or off',
    ],
    [
      '[disk]\nmin_free_inodes = -1\n',
      '[disk] min_free_inodes: "-1" is not allowed here; write a part of all (5%), a whole number or off',
    ],
    ['[queue]\nmax_files = 5%\n', '[queue] max_files: "5%" is not allowed here; write a whole number or off'],
    [
      '[load]\nmax_delay = 200\n',
      '[load] max_delay: "200" is not a duration; write 250ms, 90s, 15m, 1h or 7d',
    ],
    ['[load]\nmax_memory =\n', '[load] max_memory: "" is not allowed here; write a size (500M, 2G) or off'],
    [
      '[load]\nmax_conections = 5\n',
      '[load] max_conections: is not a key of this section; did you mean max_connections?',
    ],
    ['[lod]\n', '[lod]: is not a section of this file; did you mean [load]?'],
    ['[disk]\nmin_free = 1G\nmin_free = 2G\n', '[disk] min_free: is given twice and takes one value'],
  ] as const)
    it(`refuses ${JSON.stringify(text)}`, () => {
      assert.deepEqual(read(text).errors, [`overload.ini ${error}`])
    })

  it('reads any text into marks above nothing, or into errors', () => {
    fc.assert(
      fc.property(fc.constantFrom(...KINDS), fc.string(), (kind, text) => {
        const { value, errors } = only(LINES[kind].key, text)
        const mark = value[kind]
        assert.ok(errors.length > 0 || mark === undefined || mark.limit > 0)
      }),
    )
  })
})
