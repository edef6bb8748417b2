import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { runAtOnce } from '../core/time-slices'
import { readAcl } from '../plugins/acl/config'
import { classify, judgeConnection } from '../plugins/acl/policy'
import { readText } from './support/reading'

const read = (text: string, files: Record<string, string> = {}) =>
  readText('acl.ini', text, (reading) => runAtOnce(readAcl(reading)), files)

function acl(text: string, files: Record<string, string> = {}) {
  const { value, errors } = read(text, files)
  assert.deepEqual(errors, [])
  const ask = (ip: string, localIp?: string, localPort?: number) =>
    classify(value, { ip, localIp, localPort })
  return { ask, kind: (ip: string, localIp = '192.0.2.200', port = 25) => ask(ip, localIp, port).class }
}

const SAMPLE = `[reject]                 ; refused at connect, 554 5.7.1
203.0.113.0/24 = known spammers
203.0.113.7 = off        ; carved out of the entry above
[never]                  ; may deliver to our domains, may NEVER relay, not even after AUTH
198.51.100.0/255.255.255.0
[relay]                  ; may relay without AUTH
10.0.0.0/8 = branch offices
10.20.0.1-10.20.0.99
2001:db8:5::/48
[listener]               ; may relay when the client connected to this address of ours, from that subnet
192.0.2.10 = from 10.0.0.0/8
192.0.2.11:2525
[files]                  ; one entry a line, '#' or ';' comments; re-read when they change
reject[] = /etc/haraka/drop.txt
`

describe('acl.ini', () => {
  it('is read as the documentation shows it', () => {
    const { kind, ask } = acl(SAMPLE, { '/etc/haraka/drop.txt': '# bad\n192.0.2.66 ; very\n\n' })
    assert.equal(kind('203.0.113.8'), 'reject')
    assert.equal(kind('203.0.113.7'), 'nobody')
    assert.equal(kind('192.0.2.66'), 'reject')
    assert.equal(kind('198.51.100.255'), 'never')
    assert.equal(kind('10.1.2.3'), 'relay')
    assert.equal(kind('2001:db8:5:ffff::1'), 'relay')
    assert.equal(kind('2001:db8:6::1'), 'nobody')
    assert.equal(kind('192.0.2.1', '192.0.2.11', 2525), 'relay')
    assert.equal(kind('192.0.2.1', '192.0.2.11', 25), 'nobody')
    assert.equal(kind('192.0.2.1', '192.0.2.10'), 'nobody')
    assert.equal(ask('10.20.0.5').rule?.key, '10.20.0.1-10.20.0.99')
    assert.deepEqual(ask('10.9.9.9'), {
      class: 'relay',
      rule: { file: 'acl.ini', section: 'relay', key: '10.0.0.0/8' },
      label: 'branch offices',
    })
    assert.equal(ask('192.0.2.66').rule?.key, 'reject[] = /etc/haraka/drop.txt line 2')
  })

  const bad: [string, ...string[]][] = [
    ['[realy]\n10.0.0.0/8', 'acl.ini [realy]: is not a section of this file; did you mean [relay]?'],
    [
      '10.0.0.0/8',
      'acl.ini [main]: is not a section of this file; known: [reject] [never] [relay] [listener] [files]',
    ],
    [
      '[relay]\n10.0.0.1/8',
      'acl.ini [relay] 10.0.0.1/8: host bits are set, did you mean 10.0.0.0/8 or 10.0.0.1?',
    ],
    ['[relay]\n10.0.0.0/33', 'acl.ini [relay] 10.0.0.0/33: prefix longer than 32, allowed is /0 to /32'],
    [
      '[relay]\n10.0.0.0/255.0.255.0',
      'acl.ini [relay] 10.0.0.0/255.0.255.0: the netmask has holes, allowed are ones followed by zeros, like 255.255.255.0',
    ],
    [
      '[relay]\n10.20.0.9-10.20.0.1',
      'acl.ini [relay] 10.20.0.9-10.20.0.1: the range runs backwards, did you mean 10.20.0.1-10.20.0.9?',
    ],
    ['[relay]\n10.20.0.1 - 10.20.0.9', 'acl.ini [relay] line 2: cannot be read: 10.20.0.1 - 10.20.0.9'],
    [
      '[relay]\n10.0.0.0/8\n10.0.0.0/255.0.0.0',
      'acl.ini [relay] 10.0.0.0/255.0.0.0: says the same as 10.0.0.0/8',
    ],
    ['[relay]\n10.0.0.0/8\n10.0.0.0/8', 'acl.ini [relay] 10.0.0.0/8: says the same as 10.0.0.0/8'],
    [
      '[relay]\n10.0.0.0/8\n10.0.0.0-10.255.255.255 = off',
      'acl.ini [relay] 10.0.0.0-10.255.255.255: contradicts 10.0.0.0/8, which has as many addresses',
    ],
    [
      '[relay]\n10.0.0.1\n::ffff:10.0.0.1 = off',
      'acl.ini [relay] ::ffff:10.0.0.1: contradicts 10.0.0.1, which has as many addresses',
    ],
    [
      '[relay]\n10.0.0.7 = off # carved',
      'acl.ini [relay] 10.0.0.7: "off # carved" is neither an exception nor a label; write off alone for an exception',
    ],
    [
      '[relay]\n10.0.0.7 = off;carved',
      'acl.ini [relay] 10.0.0.7: "off;carved" is neither an exception nor a label; write off alone for an exception',
    ],
    [
      '[relay]\n10.0.0.7 = no',
      'acl.ini [relay] 10.0.0.7: "no" is neither an exception nor a label; write off alone for an exception',
    ],
    [
      '[relay]\n10.0.0.7 = False',
      'acl.ini [relay] 10.0.0.7: "False" is neither an exception nor a label; write off alone for an exception',
    ],
    ['[listener]\n192.0.2.10 = office', 'acl.ini [listener] 192.0.2.10: "office" is not "from SUBNET"'],
    [
      '[listener]\n192.0.2.10 = form 10.0.0.0/8',
      'acl.ini [listener] 192.0.2.10: "form 10.0.0.0/8" is not "from SUBNET"',
    ],
    ['[listener]\n192.0.2.10 = from', 'acl.ini [listener] 192.0.2.10: "from" is not "from SUBNET"'],
    ['[listener]\n192.0.2.10 = from ,', 'acl.ini [listener] 192.0.2.10: "from ," is not "from SUBNET"'],
    ['[listener]\n192.0.2.10 = ; from 10.0.0.0/8', 'acl.ini [listener] 192.0.2.10: "" is not "from SUBNET"'],
    [
      '[listener]\n192.0.2.10 = 10.0.0.0/8',
      'acl.ini [listener] 192.0.2.10: "10.0.0.0/8" is not "from SUBNET"',
    ],
    ['[listener]\n192.0.2.10 = off', 'acl.ini [listener] 192.0.2.10: "off" is not "from SUBNET"'],
    [
      '[listener]\n192.0.2.10 = from 10.0.0.1/8',
      'acl.ini [listener] 192.0.2.10: 10.0.0.1/8: host bits are set, did you mean 10.0.0.0/8 or 10.0.0.1?',
    ],
    ['[listener]\n192.0.2.10\n192.0.2.10', 'acl.ini [listener] 192.0.2.10: is given twice'],
    [
      '[listener]\n[2001:db8::1]:25\n[2001:DB8:0::1]:25 = from 10.0.0.0/8',
      'acl.ini [listener] [2001:DB8:0::1]:25: is given twice',
    ],
    ...[
      '0.0.0.0',
      ':::25',
      '192.0.2.10:0',
      '192.0.2.10:65536',
      '192.0.2.0/24',
      'mx.example',
      '192.0.2.10:',
      '2001:db8::1:g',
    ].map((key): [string, string] => [
      `[listener]\n${key}`,
      `acl.ini [listener] ${key}: is not a local address; allowed are ADDRESS, ADDRESS:PORT and [IPv6]:PORT`,
    ]),
    [
      '[files]\nreject[] = /nowhere',
      'acl.ini [files] /nowhere: cannot be read: it is not in the last good configuration',
    ],
    ['[files]\nnever[] = ; /etc/never.txt', 'acl.ini [files] never: names no file'],
    [
      '[files]\nlisteners[] = /x',
      'acl.ini [files] listeners: is not a key of this section; known: reject, never, relay',
    ],
  ]
  for (const [text, ...errors] of bad)
    it(`${JSON.stringify(text)} is an error`, () => assert.deepEqual(read(text).errors, errors))

  it('tells the errors of a list file with their lines, and 20 at most', () => {
    const { errors } = read('[files]\nnever[] = /l', { '/l': 'x\n10.0.0.0/8\n10.0.0.1/8 # y\n' })
    assert.equal(errors.length, 2)
    assert.match(
      errors[0] ?? '',
      /^acl\.ini \[files\] \/l: line 1: x is not an address, allowed are an address, CIDR/,
    )
    assert.match(errors[1] ?? '', /^acl\.ini \[files\] \/l: line 3: host bits are set/)
    const many = read('[files]\nnever[] = /l', { '/l': 'x\n'.repeat(1000) }).errors
    assert.equal(many.length, 21)
    assert.equal(many[20], 'acl.ini [files] /l: and 980 more')
  })
})

describe('who a client is', () => {
  it('is decided by reject before never before relay before listener, however small the entries are', () => {
    const { kind } = acl(
      '[relay]\n192.0.2.1\n192.0.2.2\n192.0.2.3\n[never]\n192.0.2.0/30\n192.0.2.4\n[reject]\n192.0.2.0/31\n[listener]\n192.0.2.200',
    )
    assert.deepEqual(
      ['192.0.2.1', '192.0.2.2', '192.0.2.3', '192.0.2.4', '192.0.2.5'].map((ip) => kind(ip)),
      ['reject', 'never', 'never', 'never', 'relay'],
    )
  })

  it('within a list is decided by the entry with the fewest addresses, in whatever order', () => {
    for (const lines of [
      ['10.0.0.0/8', '10.1.0.0/16 = off', '10.1.1.0-10.1.1.9 = again'],
      ['10.1.1.0-10.1.1.9 = again', '10.1.0.0/16 = OFF', '10.0.0.0/8'],
    ]) {
      const { kind } = acl(`[relay]\n${lines.join('\n')}\n`)
      assert.deepEqual(
        ['10.9.9.9', '10.1.2.3', '10.1.1.9', '10.1.1.10'].map((ip) => kind(ip)),
        ['relay', 'nobody', 'relay', 'nobody'],
      )
    }
  })

  it('does not change when a label only begins like off', () => {
    const { kind } = acl('[relay]\n10.0.0.1 = offsite backup\n10.0.0.2 = off-site\n10.0.0.3 = norway\n')
    assert.deepEqual(
      ['10.0.0.1', '10.0.0.2', '10.0.0.3'].map((ip) => kind(ip)),
      ['relay', 'relay', 'relay'],
    )
  })

  it('of an exception by hand out of a list from elsewhere is nobody', () => {
    const { kind } = acl('[reject]\n192.0.2.66 = off\n[files]\nreject[] = /l', {
      '/l': '192.0.2.66\n192.0.2.67\n',
    })
    assert.deepEqual([kind('192.0.2.66'), kind('192.0.2.67')], ['nobody', 'reject'])
  })

  it('is the same for an IPv4 address in IPv6 dress', () => {
    const { kind } = acl('[never]\n192.0.2.1\n[relay]\n::ffff:192.0.2.2\n::ffff:10.0.0.0/104\n')
    assert.deepEqual(
      ['::ffff:192.0.2.1', '192.0.2.2', '10.9.9.9', '::ffff:c000:201'].map((ip) => kind(ip)),
      ['never', 'relay', 'relay', 'never'],
    )
  })

  it('is one host for a bare IPv6 address', () => {
    const { kind } = acl('[relay]\n2001:db8::1\n')
    assert.deepEqual(
      ['2001:db8::1', '2001:db8::2', '2001:db8:ffff::9'].map((ip) => kind(ip)),
      ['relay', 'nobody', 'nobody'],
    )
  })

  it('is nobody where the address cannot be read', () => {
    const { kind } = acl('[relay]\n0.0.0.0/1\n::/1\n')
    for (const ip of ['', 'x', '10.0.0.1x', '010.0.0.1', '__proto__', '\0', '\ud800', '1'.repeat(65_536)])
      assert.equal(kind(ip), 'nobody')
  })

  it('by a listener depends on our address, its port and from where, in IPv6 in any form', () => {
    const { kind, ask } = acl(
      '[listener]\n192.0.2.10:587 = from 10.0.0.0/8, 2001:db8::/32\n2001:DB8:0:0::25\n[2001:db8::26]:587 = from 10.0.0.0/8\n',
    )
    assert.equal(kind('10.0.0.1', '192.0.2.10', 587), 'relay')
    assert.equal(kind('2001:db8::9', '192.0.2.10', 587), 'relay')
    assert.equal(kind('10.0.0.1', '::ffff:192.0.2.10', 587), 'relay')
    assert.equal(kind('10.0.0.1', '192.0.2.10', 25), 'nobody')
    assert.equal(kind('11.0.0.1', '192.0.2.10', 587), 'nobody')
    assert.equal(kind('x', '192.0.2.10', 587), 'nobody')
    assert.equal(kind('203.0.113.1', '2001:db8::25', 26), 'relay')
    assert.equal(kind('10.0.0.1', '2001:db8::26', 587), 'relay')
    assert.equal(kind('10.0.0.1', '2001:db8::26', 25), 'nobody')
    assert.equal(ask('10.0.0.1', undefined, undefined).class, 'nobody')
    assert.equal(ask('10.0.0.1', '192.0.2.10', 587).rule?.key, '192.0.2.10:587')
  })
})

describe('what is said at connect', () => {
  it('closes on the rejected, with the label, and lets the others in', () => {
    const { ask } = acl(SAMPLE, { '/etc/haraka/drop.txt': '# nobody\n' })
    const rejected = judgeConnection(ask('203.0.113.8'), '203.0.113.8')
    assert.deepEqual(
      [rejected?.code, rejected?.status, rejected?.text, rejected?.close],
      [554, '5.7.1', '203.0.113.8 is not welcome here: known spammers', true],
    )
    assert.equal(judgeConnection(ask('198.51.100.1'), '198.51.100.1')?.code, 220)
    assert.equal(judgeConnection(ask('10.0.0.1'), '10.0.0.1')?.text, '10.0.0.1 may relay: branch offices')
    assert.equal(judgeConnection(ask('192.0.2.99'), '192.0.2.99'), undefined)
  })
})
