import assert from 'node:assert/strict'
import { networkInterfaces } from 'node:os'
import { describe, it } from 'node:test'
import { ownListeners } from '../core/net/own-listeners'

const elsewhere = '203.0.113.9'
const own = Object.values(networkInterfaces()).flatMap((each) => each ?? [])

describe('where this server listens', () => {
  const cases: [string, Record<string, unknown>, [string, number, boolean][]][] = [
    [
      'by default: port 25 everywhere',
      {},
      [
        ['127.0.0.1', 25, true],
        ['127.9.9.9', 25, true],
        ['::1', 25, true],
        ['127.0.0.1', 26, false],
        [elsewhere, 25, false],
      ],
    ],
    [
      'listen = 192.0.2.1:25',
      { listen: '192.0.2.1:25' },
      [
        ['192.0.2.1', 25, true],
        ['192.0.2.2', 25, false],
        ['127.0.0.1', 25, false],
      ],
    ],
    [
      'listen without a port',
      { listen: '192.0.2.1' },
      [
        ['192.0.2.1', 25, true],
        ['192.0.2.1', 587, false],
      ],
    ],
    [
      'listen = several',
      { listen: '192.0.2.1:25, [::]:587 ,[2001:DB8:0::1]:465' },
      [
        ['192.0.2.1', 25, true],
        ['127.0.0.1', 587, true],
        ['2001:db8::1', 465, true],
        ['2001:db8::1', 25, false],
      ],
    ],
    [
      'port, as a number',
      { port: 2525 },
      [
        ['127.0.0.1', 2525, true],
        ['127.0.0.1', 25, false],
      ],
    ],
    [
      'port and listen_host',
      { port: 2525, listen_host: '192.0.2.1' },
      [
        ['192.0.2.1', 2525, true],
        ['127.0.0.1', 2525, false],
      ],
    ],
    [
      'listen = [::0]:25 and 0.0.0.0:587',
      { listen: '[::0]:25,0.0.0.0:587' },
      [
        ['127.0.0.1', 25, true],
        ['::1', 25, true],
        ['127.0.0.1', 587, true],
        [elsewhere, 25, false],
      ],
    ],
  ]
  for (const [title, main, asked] of cases)
    it(title, () => {
      const isOwn = ownListeners(main)
      for (const [ip, port, answer] of asked) assert.equal(isOwn(ip, port), answer, `${ip} ${port}`)
    })

  it('knows its own interfaces where it listens everywhere', () => {
    const isOwn = ownListeners({})
    for (const { address } of own) assert.equal(isOwn(address, 25), true, address)
  })

  it('is seen through other ways to write an address, also that of no host in particular', () => {
    const isOwn = ownListeners({ listen: '127.0.0.1:25,[::1]:25' })
    for (const ip of ['::ffff:127.0.0.1', '0:0:0:0:0:0:0:1', '0.0.0.0', '::', '::ffff:0.0.0.0'])
      assert.equal(isOwn(ip, 25), true, ip)
    assert.equal(isOwn('0.0.0.0', 26), false)
  })
})
