// A recently refused client is refused at accept(): a real server and real sockets, with a clock of the test's own.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { after, before, beforeEach, describe, it } from 'node:test'
import { EarlyRefusal, MOST_REMEMBERED } from '../core/haraka/early-refusal'
import { type Every, Hold } from '../core/haraka/hold'
import { connectionOf, pluginOf } from './support/connection'

let now = 0
let accepted = 0
let refusal: EarlyRefusal
const server = createServer()
const { plugin, log } = pluginOf()
const spoken = {
  time: 0,
  plugin: plugin.name,
  accepted: false,
  id: '7F3A0C91',
  outcome: 'connection.limited',
  rule: 'limits.ini [connections per ip] limit',
  ip: '127.0.0.1',
}
const decision = {
  outcome: 'connection.limited',
  code: 421,
  status: '4.7.0',
  text: 'Too many',
  rule: { file: 'limits.ini', section: 'connections per ip', key: 'limit' },
}
const withTime = (text: string, left: number) => `${text}, again in ${Math.ceil(left / 1000)} s`
const tag = '{ip:127.0.0.1}'

/** Holds nobody for long. */
const fast: Every = (_ms, call) => {
  const timer = setInterval(call, 1)
  return () => clearInterval(timer)
}

/** All that a client is told before it is disconnected. */
async function told(): Promise<string> {
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
  let text = ''
  socket.setEncoding('utf8').on('data', (part: string) => {
    text += part
  })
  await once(socket, 'close')
  return text
}

const refuse = (
  wait: number,
  client = '127.0.0.1',
  more: (of: ReturnType<typeof connectionOf>) => void = () => undefined,
  remembersFor = 5000,
) => {
  const { address, port } = server.address() as AddressInfo
  const connection = connectionOf({ remoteAddress: client, localAddress: address, localPort: port })
  more(connection)
  refusal.remember(plugin, connection, { decision, spoken, wait, withTime, tag, remembersFor })
}

before(() => once(server.listen(0, '127.0.0.1'), 'listening'))
after(() => server.close())
beforeEach(() => {
  now = 0
  accepted = 0
  log.length = 0
  refusal = new EarlyRefusal(() => now, new Hold(fast))
  server.removeAllListeners('connection')
  server.on('connection', (socket) => {
    accepted++
    socket.end('220 hello\r\n')
  })
  refusal.guard(server)
})

describe('a recently refused client', () => {
  it('hears how long it has to wait, by the id of the first refusal, and the server never sees it', async () => {
    refuse(12_000)
    assert.equal(await told(), '421 4.7.0 Too many, again in 12 s (id 7F3A0C91)\r\n')
    now = 4999
    assert.equal(await told(), '421 4.7.0 Too many, again in 8 s (id 7F3A0C91)\r\n')
    assert.equal(accepted, 0)
    assert.match(log[0] ?? '', /^decision/)
  })

  it('is judged anew when its time is over, or that for which it may be remembered, or an hour', async () => {
    for (const [wait, remembersFor, over] of [
      [12_000, 5000, 5000],
      [2000, 5000, 2000],
      [12_000, Infinity, 12_000],
      [86_400_000, Infinity, 3_600_000],
    ] as const) {
      refuse(wait, undefined, undefined, remembersFor)
      now += over - 1
      assert.match(await told(), /^421/)
      now += 1
      assert.match(await told(), /^220/)
    }
  })

  it('is judged anew when all is forgotten, or what refused it', async () => {
    refuse(12_000)
    refusal.forget('{ip:127.0.0.2}')
    assert.match(await told(), /^421/)
    refusal.forget(tag)
    assert.match(await told(), /^220/)
    refuse(12_000)
    refusal.forget()
    assert.match(await told(), /^220/)
  })

  it('is not remembered for less than a second', async () => {
    refuse(999)
    assert.match(await told(), /^220/)
  })

  it('is not taken for another client: by its address, behind a proxy, or after XCLIENT', async () => {
    refuse(12_000, '127.0.0.2')
    refuse(12_000, '127.0.0.1', ({ proxy }) => {
      proxy.allowed = true
    })
    refuse(12_000, '127.0.0.1', ({ remote }) => {
      remote.ip = '192.0.2.1'
    })
    refuse(12_000, '127.0.0.1', ({ local }) => {
      local.ip = '192.0.2.10'
    })
    refuse(12_000, '127.0.0.1', ({ local }) => {
      local.port++
    })
    assert.match(await told(), /^220/)
  })

  it('is let in at another address or port of ours, where it may be exempt', async () => {
    const { port } = server.address() as AddressInfo
    for (const other of [{ localAddress: '127.0.0.2' }, { localPort: port + 1 }]) {
      const ends = { remoteAddress: '127.0.0.1', localAddress: '127.0.0.1', localPort: port, ...other }
      refusal.remember(plugin, connectionOf(ends), { decision, spoken, wait: 12_000 })
      assert.match(await told(), /^220/)
    }
    refuse(12_000)
    assert.match(await told(), /^421/)
  })

  it('is forgotten first of all when 50,000 others came after it', async () => {
    const { address, port } = server.address() as AddressInfo
    const connection = connectionOf({ localAddress: address, localPort: port })
    refuse(12_000)
    for (let n = 1; n <= MOST_REMEMBERED; n++) {
      if (n === MOST_REMEMBERED) assert.match(await told(), /^421/)
      const ip = `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`
      connection.client.remoteAddress = ip
      connection.remote.ip = ip
      refusal.remember(plugin, connection, { decision, spoken, wait: 12_000, tag: `{ip:${ip}}` })
    }
    assert.match(await told(), /^220/)
  })
})

it('a server with TLS from the start is left alone', async () => {
  const other = Object.assign(createServer(), { has_tls: true })
  const listener = () => undefined
  other.on('connection', listener)
  refusal.guard(other)
  refusal.guard({ listeners: [] })
  assert.deepEqual(other.listeners('connection'), [listener])
})
