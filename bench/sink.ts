// The next hop of the benchmark, in a process of its own: takes everything, keeps nothing, does as little as it can.
import { createServer, type Socket } from 'node:net'
import { answerQuestions } from './child'

const CAPABILITIES = '250-sink.example\r\n250-PIPELINING\r\n250-SIZE\r\n250 8BITMIME\r\n'

function reply(line: string): string {
  switch (line.slice(0, 4).toUpperCase()) {
    case 'EHLO':
      return CAPABILITIES
    case 'DATA':
      return '354 Go ahead\r\n'
    case 'QUIT':
      return '221 2.0.0 Bye\r\n'
    default:
      return '250 2.0.0 Ok\r\n'
  }
}

function serve(socket: Socket): void {
  let heard = ''
  let inMessage = false
  socket.setNoDelay(true)
  socket.on('error', () => {})
  socket.write('220 sink.example ready\r\n')
  socket.on('data', (chunk) => {
    heard += chunk.toString('latin1')
    let said = ''
    for (;;) {
      const mark = inMessage ? '\r\n.\r\n' : '\r\n'
      const end = heard.indexOf(mark)
      if (end < 0) break
      const line = inMessage ? 'dot' : heard.slice(0, end)
      heard = heard.slice(end + mark.length)
      said += reply(line)
      inMessage = !inMessage && /^DATA/i.test(line)
      if (/^QUIT/i.test(line)) return void socket.end(said)
    }
    if (said) socket.write(said)
  })
}

function listen(): Promise<number> {
  const server = createServer(serve)
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      resolve(address && typeof address === 'object' ? address.port : 0)
    })
  })
}

if (require.main === module) answerQuestions(listen)
