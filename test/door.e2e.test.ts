import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { type Haraka, startHaraka } from './support/haraka'
import { SmtpClient } from './support/smtp-client'

const limits = (limit: string) => `[connections per ip]\nlimit = ${limit}\n`
const proxy = '127.0.9.9'

describe('at the door', () => {
  let haraka: Haraka

  before(async () => {
    haraka = await startHaraka({
      plugins: ['relay-guard/acl', 'relay-guard/limits'],
      files: {
        'relay-guard/acl.ini': '[reject]\n127.0.8.8 = bad neighbour\n',
        'relay-guard/limits.ini': limits('2/1h'),
        'connection.ini': `[haproxy]\nenabled=true\nhosts[]=${proxy}\n[max]\nbytes=1000000\nline_length=512\ndata_line_length=992\nmime_parts=1000\n[headers]\nmax_lines=1000\nmax_received=100\n[message]\nhelo=hi\nclose=bye\n[uuid]\nbanner_chars=6\n`,
      },
    })
  })
  after(() => haraka.stop())

  const greeting = async (from: string, first?: string) => {
    const client = await SmtpClient.connect({
      port: haraka.port,
      from,
      ...(first !== undefined && { first }),
    })
    client.destroy()
    return client.greeting
  }
  const greetings = async (from: string, times: number, first?: string) => {
    const all: string[] = []
    for (let time = 0; time < times; time++) {
      const { code, text } = await greeting(from, first)
      all.push(code === 220 ? '220' : `${code} ${text}`)
    }
    return all
  }
  const connects = (ip: string) => haraka.output().match(new RegExp(` connect ip=${ip} `, 'g'))?.length ?? 0

  it('a client over its limit is refused again without a connection, by the id of the first refusal', async () => {
    const all = await greetings('127.0.1.1', 3)
    // Side by side: within the time for which a refusal is remembered.
    all.push(...(await Promise.all(Array.from({ length: 37 }, () => greetings('127.0.1.1', 1)))).flat())
    assert.deepEqual(all.slice(0, 2), ['220', '220'])
    const [, id] = /^421 4\.7\.0 .* \(id ([0-9A-F]{8})\)$/.exec(all[2] ?? '') ?? []
    assert.ok(id, all[2])
    for (const each of all.slice(2)) {
      assert.match(each, new RegExp(`^421 4\\.7\\.0 Too many connections from 127\\.0\\.1\\.1 .*id ${id}`))
    }
    await haraka.waitForLog(new RegExp(`id=${id}`))
    assert.equal(connects('127.0.1.1'), 3)
    assert.ok((haraka.output().match(new RegExp(`id=${id}`, 'g'))?.length ?? 0) < 10)
  })

  it('others are let in', async () => assert.deepEqual(await greetings('127.0.1.2', 1), ['220']))

  it('a rejected client is turned away, too', async () => {
    for (const each of await greetings('127.0.8.8', 10)) assert.match(each, /^554 5\.7\.1 .*bad neighbour/)
    await haraka.waitForLog(/ connect ip=127\.0\.8\.8 /)
    assert.equal(connects('127.0.8.8'), 1)
  })

  it('a client that speaks before it is greeted hears why it is refused', async () => {
    const client = await SmtpClient.connect({ port: haraka.port, from: '127.0.8.8', first: 'EHLO early\r\n' })
    assert.equal(client.greeting.code, 554)
    client.destroy()
  })

  it('a proxy is let in whatever its clients have done', async () => {
    const line = (ip: string) => `PROXY TCP4 ${ip} 127.0.0.1 40000 25\r\n`
    assert.match((await greetings(proxy, 3, line(proxy)))[2] ?? '', /^421/)
    assert.deepEqual(await greetings(proxy, 1, line('127.0.1.3')), ['220'])
  })

  it('a new configuration is asked anew', async () => {
    haraka.write('relay-guard/limits.ini', limits('200/1h'))
    await haraka.waitForLog(/limits\.ini was read again/)
    assert.deepEqual(await greetings('127.0.1.1', 1), ['220'])
  })
})
