import assert from 'node:assert/strict'
import { isIP } from 'node:net'
import { test } from 'node:test'
import { formatIp, type Ip, parseIp, parseV6 } from '../core/net/ip'
import { parseEntry } from '../core/net/range'
import { fc } from './support/random'

const ALLOWED =
  'allowed are an address, CIDR (192.0.2.0/24), address/netmask (192.0.2.0/255.255.255.0) and a range (192.0.2.1-192.0.2.9)'

const MISTAKES: Record<string, string> = {
  '': `empty entry: an address is missing, ${ALLOWED}`,
  '/33': `/33: an address is missing, ${ALLOWED}`,
  '10.0.0.1-': `10.0.0.1-: an address is missing, ${ALLOWED}`,
  '1.2.3': `1.2.3: 1.2.3 is not an address, ${ALLOWED}`,
  '1.2.3.256': `1.2.3.256: 1.2.3.256 is not an address, ${ALLOWED}`,
  'mail.example': `mail.example: mail.example is not an address, ${ALLOWED}`,
  '10.0.0.1-20': `10.0.0.1-20: 20 is not an address, ${ALLOWED}`,
  '10.0.0.0/24-10.0.1.0/24': `10.0.0.0/24-10.0.1.0/24: 10.0.0.0/24 is not an address, ${ALLOWED}`,
  '1.2.3.4\x00': `1.2.3.4 : 1.2.3.4  is not an address, ${ALLOWED}`,
  '010.0.0.1': `010.0.0.1: leading zeros are not possible (octal or decimal?), ${ALLOWED}`,
  '10.0.0.01/32': `10.0.0.01/32: leading zeros are not possible (octal or decimal?), ${ALLOWED}`,
  'fe80::1%eth0': `fe80::1%eth0: zone ids are not possible here, ${ALLOWED}`,
  'fe80::%eth0/64': `fe80::%eth0/64: zone ids are not possible here, ${ALLOWED}`,
  ' 10.0.0.1': ` 10.0.0.1: spaces are not possible here, ${ALLOWED}`,
  '10.0.0.1 - 10.0.0.9': `10.0.0.1 - 10.0.0.9: spaces are not possible here, ${ALLOWED}`,
  '10.0.0.0/8x':
    '10.0.0.0/8x: /8x is not a prefix length, allowed is /0 to /32 or a netmask like /255.255.255.0',
  '10.0.0.0/': '10.0.0.0/: / is not a prefix length, allowed is /0 to /32 or a netmask like /255.255.255.0',
  '10.0.0.0/08':
    '10.0.0.0/08: /08 is not a prefix length, allowed is /0 to /32 or a netmask like /255.255.255.0',
  '10.0.0.0/-8': `10.0.0.0/-8: 10.0.0.0/ is not an address, ${ALLOWED}`,
  '10.0.0.0/33': '10.0.0.0/33: prefix longer than 32, allowed is /0 to /32',
  '2001:db8::/129': '2001:db8::/129: prefix longer than 128, allowed is /0 to /128',
  '2001:db8::/255.0.0.0': '2001:db8::/255.0.0.0: /255.0.0.0 is not a prefix length, allowed is /0 to /128',
  '10.0.0.0/255.0.255.0':
    '10.0.0.0/255.0.255.0: the netmask has holes, allowed are ones followed by zeros, like 255.255.255.0',
  '10.0.0.0/0.255.255.255':
    '10.0.0.0/0.255.255.255: the netmask has holes, allowed are ones followed by zeros, like 255.255.255.0',
  '10.1.2.3/8': '10.1.2.3/8: host bits are set, did you mean 10.0.0.0/8 or 10.1.2.3?',
  '10.1.2.3/255.255.0.0': '10.1.2.3/255.255.0.0: host bits are set, did you mean 10.1.0.0/16 or 10.1.2.3?',
  '10.9.9.9/0': '10.9.9.9/0: host bits are set, did you mean 0.0.0.0/0 or 10.9.9.9?',
  '2001:DB8::1/32': '2001:DB8::1/32: host bits are set, did you mean 2001:db8::/32 or 2001:db8::1?',
  '::ffff:10.1.2.3/104': '::ffff:10.1.2.3/104: host bits are set, did you mean 10.0.0.0/8 or 10.1.2.3?',
  '::ffff:0:0/95': '::ffff:0:0/95: host bits are set, did you mean ::fffe:0:0/95 or ::ffff:0:0?',
  '10.0.0.9-10.0.0.1': '10.0.0.9-10.0.0.1: the range runs backwards, did you mean 10.0.0.1-10.0.0.9?',
  '10.0.0.1-::1': '10.0.0.1-::1: the range mixes IPv4 and IPv6, allowed is one of them',
  '::ffff:10.0.0.1-2001:db8::':
    '::ffff:10.0.0.1-2001:db8::: the range mixes IPv4 and IPv6, allowed is one of them',
}

for (const [entry, message] of Object.entries(MISTAKES)) {
  test(`the entry ${JSON.stringify(entry)} is refused and told why`, () => {
    assert.throws(() => parseEntry(entry), { message })
  })
}

test('an error of 64 KB or with control characters stays one short line', () => {
  assert.throws(
    () => parseEntry(`${'9'.repeat(65536)}\r\n\x1b[2J`),
    ({ message }: Error) => message.length < 500 && !/[\r\n\x1b]/.test(message),
  )
})

const ENTRIES: Record<string, [string, string]> = {
  '192.0.2.7': ['192.0.2.7', '192.0.2.7'],
  '0.0.0.0/0': ['0.0.0.0', '255.255.255.255'],
  '192.0.2.128/25': ['192.0.2.128', '192.0.2.255'],
  '192.0.2.7/32': ['192.0.2.7', '192.0.2.7'],
  '198.51.100.0/255.255.255.0': ['198.51.100.0', '198.51.100.255'],
  '0.0.0.0/0.0.0.0': ['0.0.0.0', '255.255.255.255'],
  '10.20.0.1-10.20.0.99': ['10.20.0.1', '10.20.0.99'],
  '2001:db8::5': ['2001:db8::5', '2001:db8::5'],
  '2001:DB8:5::/48': ['2001:db8:5::', '2001:db8:5:ffff:ffff:ffff:ffff:ffff'],
  '::/0': ['::', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'],
  '2001:db8::ffff-2001:db8::1:0': ['2001:db8::ffff', '2001:db8::1:0'],
  '::ffff:192.0.2.7': ['192.0.2.7', '192.0.2.7'],
  '::ffff:c000:207': ['192.0.2.7', '192.0.2.7'],
  '::ffff:0:0/96': ['0.0.0.0', '255.255.255.255'],
  '::ffff:192.0.2.0/120': ['192.0.2.0', '192.0.2.255'],
  '::ffff:192.0.2.0/255.255.255.0': ['192.0.2.0', '192.0.2.255'],
  '192.0.2.1-::ffff:192.0.2.9': ['192.0.2.1', '192.0.2.9'],
  '::fffe:0:0/95': ['::fffe:0:0', '::ffff:ffff:ffff'],
}

for (const [entry, [first, last]] of Object.entries(ENTRIES)) {
  test(`the entry ${entry} is read as ${first} to ${last}`, () => {
    const range = parseEntry(entry)
    assert.deepEqual([formatIp(range.first), formatIp(range.last)], [first, last])
    assert.equal(range.family, first.includes('.') ? 4 : 6)
  })
}

const group = fc.constantFrom(
  '',
  '',
  '0',
  '1',
  'ffff',
  'FFFF',
  '00a0',
  '10000',
  'g',
  '1.2.3.4',
  '01.2.3.4',
  '1.2.3',
)
const almostIp = fc.oneof(
  fc.ipV4(),
  fc.ipV6(),
  fc.array(group, { maxLength: 10 }).map((groups) => groups.join(':')),
  fc
    .array(fc.constantFrom('', '0', '1', '01', '255', '256', '9a'), { maxLength: 5 })
    .map((octets) => octets.join('.')),
  fc.string({ unit: fc.constantFrom('0', '1', 'f', ':', '.', '-', ' ') }),
)

const TOO_MANY_OR_FEW = [
  '1:2:3:4:5:6:7:8::',
  '1::2:3:4:5:6:7:8',
  '1:2:3:4:5:6:7::',
  '::2:3:4:5:6:7:8',
  '1:2:3:4:5:6:1.2.3.4',
  '1:2:3:4:5:6:7:1.2.3.4',
  '1:2:3:4:5:6:7:8:9',
  '1:2:3:4:5:6:7:8:9::',
  '1:2:3:4:5::1.2.3.4',
  '1::2:3:4:5:6:7:8:9:a',
]

test('an address is read exactly when Node.js calls it one', () => {
  const assertSame = (text: string) => assert.equal(parseIp(text) !== undefined, isIP(text) !== 0, text)
  TOO_MANY_OR_FEW.forEach(assertSame)
  fc.assert(fc.property(almostIp, assertSame), { numRuns: 5000 })
})

test('an IPv6 address prints as the WHATWG URL standard prints it, which is RFC 5952', () => {
  const words = fc.array(fc.constantFrom(0, 0, 1, 0xa0000, 0xffff0000, 0x1000b), {
    minLength: 4,
    maxLength: 4,
  })
  fc.assert(
    fc.property(words, (ip: Ip) => {
      const full = ip.map((word) => `${(word >>> 16).toString(16)}:${(word & 0xffff).toString(16)}`).join(':')
      assert.equal(`[${formatIp(ip)}]`, new URL(`http://[${full}]`).hostname)
      assert.deepEqual(parseV6(formatIp(ip)), ip)
    }),
    { numRuns: 1000 },
  )
})
