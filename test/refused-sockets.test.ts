// What becomes of the socket of a refused client: real sockets, and timers that pass by hand.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { AnsweredSockets, MOST_OPEN } from '../core/haraka/answered-sockets'
import { EarlyRefusal } from '../core/haraka/early-refusal'
import { Hold, MOST_HELD } from '../core/haraka/hold'
import { connectionOf, pluginOf } from './support/connection'
import { ticksByHand } from './support/ticks'

const server = createServer()
const { plugin } = pluginOf()
const decision = {
  outcome: 'connection.limited',
  code: 421,
  status: '4.7.0',
  text: 'Too many',
  rule: { file: 'limits.ini', section: 'connections per ip', key: 'limit' },
}
const { outcome } = decision
const rule = 'limits.ini [connections per ip] limit'
const spoken = { time: 0, plugin: 'limits', accepted: false, id: '7F3A0C91', outcome, rule, ip: '127.0.0.1' }
const REPLY = '421 4.7.0 Too many (id 7F3A0C91)\r\n'

let holding: ReturnType<typeof ticksByHand>
let closing: ReturnType<typeof ticksByHand>
const sockets = new Set<Socket>()

interface Client {
  socket: Socket
  text: string
  error?: Error
  ended: boolean
}

/** A client that the server has accepted. It does not hang up when the server does, unless `hangsUp`. */
async function arrive(hangsUp = true): Promise<Client> {
  const { port } = server.address() as AddressInfo
  const accepted = once(server, 'connection')
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: !hangsUp })
  const client: Client = { socket, text: '', ended: false }
  socket.setEncoding('utf8')
  socket.on('data', (part: string) => {
    client.text += part
  })
  socket.on('end', () => {
    client.ended = true
  })
  socket.on('error', (error) => {
    client.error = error
  })
  await accepted
  sockets.add(socket)
  return client
}

const open = (): Promise<number> =>
  new Promise((resolve, reject) =>
    server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
  )

async function untilOpen(count: number): Promise<void> {
  while ((await open()) > count) await turn()
}

before(() => once(server.listen(0, '127.0.0.1'), 'listening'))
after(() => server.close())
beforeEach(() => {
  holding = ticksByHand()
  closing = ticksByHand()
  server.removeAllListeners('connection')
  const refusal = new EarlyRefusal(() => 0, new Hold(holding.every), new AnsweredSockets(closing.every))
  const { address, port } = server.address() as AddressInfo
  const connection = connectionOf({ remoteAddress: address, localAddress: address, localPort: port })
  refusal.remember(plugin, connection, { decision, spoken, wait: 60_000 })
  refusal.guard(server)
})
afterEach(async () => {
  for (const socket of sockets) socket.destroy()
  sockets.clear()
  while ((await open()) > 0) {
    holding.pass(8)
    closing.pass(2)
    await turn()
  }
})

describe('the socket of a refused client', () => {
  it('is answered after eight ticks, together with others, and closed', async () => {
    const clients = [await arrive(), await arrive(), await arrive()]
    holding.pass(7)
    assert.equal(await open(), 3)
    holding.pass(1)
    await Promise.all(clients.map(({ socket }) => once(socket, 'close')))
    assert.deepEqual(
      clients.map(({ text, error }) => [text, error]),
      clients.map(() => [REPLY, undefined]),
    )
  })

  it('is answered where the client speaks first, and much, without a reset', async () => {
    const client = await arrive()
    client.socket.write('EHLO spam.example\r\n'.repeat(20_000))
    await once(client.socket, 'drain')
    holding.pass(8)
    await once(client.socket, 'close')
    assert.deepEqual([client.text, client.error], [REPLY, undefined])
  })

  it('is closed where the client does not hang up', async () => {
    const client = await arrive(false)
    holding.pass(8)
    while (!client.ended) await turn()
    closing.pass(1)
    assert.equal(await open(), 1)
    closing.pass(1)
    await untilOpen(0)
    assert.equal(client.text, REPLY)
    closing.pass(1)
    assert.equal(closing.running + holding.running, 0)
  })

  it('is forgotten where the client has hung up meanwhile, by an end or a reset', async () => {
    const [one, other] = [await arrive(), await arrive()]
    one.socket.end()
    other.socket.resetAndDestroy()
    await untilOpen(0)
    holding.pass(8)
    assert.equal(closing.running + holding.running, 0)
  })

  it('is answered at once where too many wait', async () => {
    for (let n = 0; n < MOST_HELD; n++) await arrive()
    const client = await arrive()
    await once(client.socket, 'close')
    assert.equal(client.text, REPLY)
    await untilOpen(MOST_HELD)
    assert.equal(await open(), MOST_HELD)
  })

  it('is closed first of all where too many do not hang up', async () => {
    const clients: Client[] = []
    for (let n = 0; n <= MOST_OPEN; n++) clients.push(await arrive(false))
    holding.pass(8)
    await untilOpen(MOST_OPEN)
    while (!clients.every(({ ended }) => ended)) await turn()
    assert.deepEqual(new Set(clients.map(({ text }) => text)), new Set([REPLY]))
    assert.equal(await open(), MOST_OPEN)
  })
})
