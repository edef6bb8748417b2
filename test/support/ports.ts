// Ports for all servers of the tests. Each process holds a block of them, so that no two processes give out the same one,
// of whatever run of the suite; and none is in the range that the kernel takes for clients and for `listen(0)`, so that
// nobody gets the port of a server that has ended and is to be dead, or to start again.
import { once } from 'node:events'
import { createServer } from 'node:net'

/** The kernel's own begin at 32768, in some sandboxes at 16000. The cluster port of a Redis is 10000 above its port. */
const first = 10_000
const end = 16_000
const blockSize = 50

let last = 0
let left = 0

async function canListen(port: number, keep = false): Promise<boolean> {
  const server = createServer().unref()
  const ok = await new Promise<boolean>((resolve) => {
    server.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true))
  })
  if (ok && !keep) {
    server.close()
    await once(server, 'close')
  }
  return ok
}

/** The first port of a block is held by its process until it ends. */
async function takeBlock(): Promise<void> {
  const blocks = (end - first) / blockSize
  const start = process.pid % blocks
  for (let n = 0; n < blocks; n++) {
    const port = first + ((start + n) % blocks) * blockSize
    if (await canListen(port, true)) {
      last = port
      left = blockSize - 1
      return
    }
  }
  throw new Error(`no block of ports is free between ${first} and ${end}`)
}

let turn: Promise<unknown> = Promise.resolve()

/** A TCP port on 127.0.0.1 that nobody listens on and that is given out once: it stays dead until its caller uses it. */
export function freePort(): Promise<number> {
  const next = turn.then(async () => {
    for (;;) {
      if (left === 0) await takeBlock()
      last++
      left--
      if (await canListen(last)) return last
    }
  })
  turn = next.catch(() => undefined)
  return next
}
